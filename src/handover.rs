//! Handing descriptors to another process, over a Unix stream socket (SCM_RIGHTS).
//!
//! One hand-over is twelve bytes: eight that say what they are, four with the number of descriptors. The descriptors
//! come with the first byte. Whoever gets something else is talking to somebody else.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use socket2::{Domain, SockRef};

use crate::net::{Deadline, check_stream};
use crate::server;
use crate::status::{Error, Result, Status};
use crate::sys::{self, DESCRIPTORS_MAX};

const MAGIC: [u8; 8] = *b"ahoy:fds";
const HEAD_BYTES: usize = MAGIC.len() + size_of::<u32>();

/// What goes with `count` descriptors.
fn head(count: usize) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let (magic, number) = head.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    number.copy_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
    head
}

/// Sends copies of descriptors; waits while the socket has no room.
pub fn send(socket: BorrowedFd<'_>, fds: &[RawFd]) -> Result<()> {
    server::refuse_in_callback()?;
    check_unix_stream(socket)?;
    if !(1..=DESCRIPTORS_MAX).contains(&fds.len()) {
        let text = format!("{} descriptors: it must be 1 to {DESCRIPTORS_MAX}", fds.len());
        return Err(Error::new(Status::Invalid, text));
    }
    if let Some(closed) = fds.iter().find(|fd| !sys::is_open(**fd)) {
        return Err(Error::new(Status::BadDescriptor, format!("{closed} is not open")));
    }
    let deadline = Deadline::new(socket, libc::POLLOUT)?;
    let head = head(fds.len());
    let (mut rest, mut fds) = (&head[..], fds);
    while !rest.is_empty() {
        match sys::send_descriptors(socket, rest, fds) {
            Ok(sent) => (rest, fds) = (&rest[sent..], &[]),
            Err(error) => deadline.wait_or_fail(error)?,
        }
    }
    Ok(())
}

/// Receives what [`send`] sent, and not a byte of what comes after it. What has come when it fails is closed.
pub fn receive(socket: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    server::refuse_in_callback()?;
    check_unix_stream(socket)?;
    let deadline = Deadline::new(socket, libc::POLLIN)?;
    let foreign = || Error::new(Status::Invalid, "what came was not sent by ahoy_descriptors_send");
    let mut buffer = [0; HEAD_BYTES];
    let mut filled = 0;
    let mut fds = Vec::new();
    while filled < HEAD_BYTES {
        let received = match sys::receive_descriptors(socket, &mut buffer[filled..]) {
            Ok(received) => received,
            Err(error) => {
                deadline.wait_or_fail(error)?;
                continue;
            }
        };
        if received.count == 0 {
            return Err(Error::new(Status::Eof, "the other end is gone"));
        }
        if received.is_cut {
            return Err(Error::new(Status::Descriptors, "recvmsg: there is no room for the descriptors that came"));
        }
        filled += received.count;
        fds.extend(received.fds);
        // At once, not when all is there: what is foreign need not be as long.
        let magic = &buffer[..filled.min(MAGIC.len())];
        if !MAGIC.starts_with(magic) || fds.is_empty() {
            return Err(foreign());
        }
    }
    if buffer == head(fds.len()) { Ok(fds) } else { Err(foreign()) }
}

fn check_unix_stream(socket: BorrowedFd<'_>) -> Result<()> {
    check_stream(socket)?;
    match SockRef::from(&socket).domain() {
        Ok(Domain::UNIX) => Ok(()),
        _ => Err(Error::new(Status::BadDescriptor, format!("{} is not a Unix socket", socket.as_raw_fd()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{self, PipeReader, PipeWriter, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);

    fn status<T>(result: Result<T>) -> Status {
        result.err().expect("it fails").status
    }

    /// Sends bytes, and descriptors with the first of them, as anybody might.
    fn send_as_is(socket: &UnixStream, bytes: &[u8], fds: &[RawFd]) {
        assert_eq!(sys::send_descriptors(socket.as_fd(), bytes, fds).unwrap(), bytes.len());
    }

    /// The writer is gone, with every copy of it, wherever it was.
    fn assert_closed(mut reader: PipeReader, writer: PipeWriter) {
        drop(writer);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn descriptors_arrive_and_what_follows_stays() {
        for is_blocking in [true, false] {
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(!is_blocking).unwrap();
            theirs.set_nonblocking(!is_blocking).unwrap();
            for count in [1, 2, DESCRIPTORS_MAX] {
                let (mut reader, writer) = io::pipe().unwrap();
                send(ours.as_fd(), &vec![writer.as_raw_fd(); count]).unwrap();
                ours.write_all(b"next").unwrap();
                let received = receive(theirs.as_fd()).unwrap();
                assert_eq!(received.len(), count);
                let mut next = [0; 4];
                theirs.read_exact(&mut next).unwrap();
                assert_eq!(&next, b"next");
                drop(writer);
                for fd in received {
                    let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
                    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
                    let flags = libc::c_int::from_str_radix(flags, 8).unwrap();
                    assert_ne!(flags & libc::O_CLOEXEC, 0, "it is closed on exec");
                    PipeWriter::from(fd).write_all(b"x").unwrap();
                }
                let mut all = Vec::new();
                reader.read_to_end(&mut all).unwrap();
                assert_eq!(all.len(), count);
            }
        }
    }

    #[test]
    fn two_hand_overs_stay_apart() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        send(ours.as_fd(), &[null.as_raw_fd()]).unwrap();
        send(ours.as_fd(), &[null.as_raw_fd(); 2]).unwrap();
        assert_eq!(receive(theirs.as_fd()).unwrap().len(), 1);
        assert_eq!(receive(theirs.as_fd()).unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let fd = ours.as_raw_fd();
        for count in [0, DESCRIPTORS_MAX + 1] {
            assert_eq!(status(send(ours.as_fd(), &vec![fd; count])), Status::Invalid);
        }
        for bad in [-1, 1_000_000, RawFd::MAX] {
            assert_eq!(status(send(ours.as_fd(), &[fd, bad])), Status::BadDescriptor);
        }
        drop(theirs);
        assert_eq!(status(send(ours.as_fd(), &[fd])), Status::Reset);
    }

    #[test]
    fn only_a_connected_unix_stream_will_do() {
        let (datagram, _other) = UnixDatagram::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let unconnected = socket2::Socket::new(Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        for socket in [datagram.as_fd(), tcp.as_fd(), listener.as_fd(), file.as_fd(), unconnected.as_fd()] {
            assert_eq!(status(send(socket, &[file.as_raw_fd()])), Status::BadDescriptor);
            assert_eq!(status(receive(socket)), Status::BadDescriptor);
        }
    }

    #[test]
    fn the_sockets_own_timeouts_count() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        for is_blocking in [true, false] {
            theirs.set_nonblocking(!is_blocking).unwrap();
            theirs.set_read_timeout(Some(SHORT)).unwrap();
            assert_eq!(status(receive(theirs.as_fd())), Status::Timeout);
        }
        ours.set_nonblocking(true).unwrap();
        while ours.write(&[0; 4096]).is_ok() {}
        ours.set_write_timeout(Some(SHORT)).unwrap();
        assert_eq!(status(send(ours.as_fd(), &[theirs.as_raw_fd()])), Status::Timeout);
    }

    #[test]
    fn a_send_waits_for_room() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut filled = 0;
        while let Ok(count) = ours.write(&[7; 4096]) {
            filled += count;
        }
        let null = std::fs::File::open("/dev/null").unwrap();
        let reader = std::thread::spawn(move || {
            theirs.read_exact(&mut vec![0; filled]).unwrap();
            receive(theirs.as_fd()).unwrap().len()
        });
        send(ours.as_fd(), &[null.as_raw_fd(); 3]).unwrap();
        assert_eq!(reader.join().unwrap(), 3);
    }

    #[test]
    fn a_hand_over_that_breaks_off_leaves_nothing_open() {
        for length in 0..HEAD_BYTES {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (reader, writer) = io::pipe().unwrap();
            if length > 0 {
                send_as_is(&ours, &head(2)[..length], &[writer.as_raw_fd(); 2]);
            }
            drop(ours);
            assert_eq!(status(receive(theirs.as_fd())), Status::Eof);
            assert_closed(reader, writer);
        }
    }

    #[test]
    fn a_head_may_come_in_pieces() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        send_as_is(&ours, &head(1)[..1], &[writer.as_raw_fd()]);
        ours.write_all(&head(1)[1..]).unwrap();
        drop(receive(theirs.as_fd()).unwrap());
        assert_closed(reader, writer);
    }

    #[test]
    fn what_is_foreign_is_refused_and_closed() {
        let with_count = |count: usize, fds: usize| (head(count).to_vec(), fds);
        for (bytes, fds) in [
            with_count(2, 1),
            with_count(1, 2),
            with_count(0, 1),
            with_count(usize::MAX, 3),
            with_count(1, 0),
            (b"x".to_vec(), 1),
            (b"ahoy:fdx".to_vec(), 1),
            (vec![0; HEAD_BYTES], DESCRIPTORS_MAX),
        ] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            // It must be refused at once, though more may come.
            theirs.set_read_timeout(Some(LONG)).unwrap();
            let (reader, writer) = io::pipe().unwrap();
            send_as_is(&ours, &bytes, &vec![writer.as_raw_fd(); fds]);
            assert_eq!(status(receive(theirs.as_fd())), Status::Invalid, "{bytes:?} with {fds}");
            assert_closed(reader, writer);
        }
    }

    /// The limit of descriptors is a process's own: this test binary again, with a small one.
    #[test]
    fn more_than_the_process_may_have_is_closed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        send(ours.as_fd(), &[writer.as_raw_fd(); 100]).unwrap();
        let run = Command::new("sh")
            .args(["-c", "ulimit -n 64; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "handover::tests::with_few_descriptors", "--ignored", "--test-threads=1"])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && output.contains("1 passed"), "{output}");
        assert_closed(reader, writer);
    }

    #[test]
    #[ignore = "runs in a process that is started for it"]
    fn with_few_descriptors() {
        let stdin = io::stdin();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let error = receive(stdin.as_fd()).unwrap_err();
        assert_eq!(error.status, Status::Descriptors, "{error}");
        assert_eq!(open(), before);
    }

    proptest! {
        #[test]
        fn no_bytes_pass_for_a_hand_over(bytes in proptest::collection::vec(any::<u8>(), 1..40), fds in 0..3usize) {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (reader, writer) = io::pipe().unwrap();
            send_as_is(&ours, &bytes, &vec![writer.as_raw_fd(); fds]);
            drop(ours);
            prop_assert!(matches!(status(receive(theirs.as_fd())), Status::Invalid | Status::Eof));
            assert_closed(reader, writer);
        }
    }
}
