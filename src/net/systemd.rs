//! Socket activation (sd_listen_fds(3)) and notification (sd_notify(3)), without a library: two small protocols
//! over environment variables, which are read and never changed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::status::{Error, Result, Status};
use crate::sys;

/// The first descriptor that systemd passes.
const FIRST_FD: RawFd = 3;
/// systemd reads its socket at once; if it does not, nobody waits for it longer than this.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// Copies of the descriptors that systemd passed to this process under a name, or of all; at least one. The
/// originals are closed on exec from now on.
pub(super) fn passed(wanted: Option<&str>) -> Result<Vec<OwnedFd>> {
    let read = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let (pid, fds, names) = (read("LISTEN_PID"), read("LISTEN_FDS"), read("LISTEN_FDNAMES"));
    let found = select(pid.as_deref(), fds.as_deref(), names.as_deref(), std::process::id(), wanted)?;
    let copy = |fd: RawFd| {
        let failed = |error: io::Error| Error::system(format_args!("descriptor {fd} of LISTEN_FDS"), &error);
        let copy = sys::duplicate(fd).map_err(failed)?;
        sys::close_on_exec(fd).map_err(failed)?;
        Ok(copy)
    };
    found.into_iter().map(copy).collect()
}

/// Which descriptors the three variables name for this process.
fn select(
    pid: Option<&str>,
    fds: Option<&str>,
    names: Option<&str>,
    own_pid: u32,
    wanted: Option<&str>,
) -> Result<Vec<RawFd>> {
    let url = format!("systemd:{}", wanted.unwrap_or_default());
    let none = |why: &str| Error::new(Status::NotFound, format!("{url}: {why}"));
    let pid = pid.ok_or_else(|| none("systemd passed no socket: LISTEN_PID is not set"))?;
    if pid.parse() != Ok(own_pid) {
        return Err(none(&format!("LISTEN_PID is {pid}, which is another process than this one, {own_pid}")));
    }
    let fds = fds.ok_or_else(|| none("systemd passed no socket: LISTEN_FDS is not set"))?;
    let count = fds.parse::<RawFd>().ok().filter(|count| (0..=RawFd::MAX - FIRST_FD).contains(count));
    let count = count.ok_or_else(|| none(&format!("LISTEN_FDS is \"{fds}\", which is not a number of descriptors")))?;
    if count == 0 {
        return Err(none("systemd passed no socket: LISTEN_FDS is 0"));
    }
    let all = FIRST_FD..FIRST_FD + count;
    let Some(wanted) = wanted else { return Ok(all.collect()) };
    let names = names.ok_or_else(|| none("LISTEN_FDNAMES is not set"))?;
    let found: Vec<RawFd> = all.zip(names.split(':')).filter(|(_, name)| *name == wanted).map(|(fd, _)| fd).collect();
    if found.is_empty() {
        return Err(none(&format!("systemd passed no socket of this name; LISTEN_FDNAMES is \"{names}\"")));
    }
    Ok(found)
}

/// Tells systemd of a new state ("READY=1", "STOPPING=1"). False: it does not ask for that.
pub fn notify(state: &str) -> io::Result<bool> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(address) if !address.is_empty() => notify_at(&address, state).map(|()| true),
        _ => Ok(false),
    }
}

fn notify_at(address: &OsStr, state: &str) -> io::Result<()> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SockAddr::unix(OsStr::from_bytes(&[b"\0", name].concat()))?,
        [b'/', ..] => SockAddr::unix(address)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "NOTIFY_SOCKET is neither a path nor @name")),
    };
    let socket = Socket::new(Domain::UNIX, Type::DGRAM.cloexec(), None)?;
    socket.set_write_timeout(Some(NOTIFY_TIMEOUT))?;
    socket.send_to_with_flags(state.as_bytes(), &address, libc::MSG_NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Endpoint, ListenMode, Listener};
    use proptest::prelude::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

    const PID: u32 = 77;

    fn chosen(pid: &str, fds: &str, names: Option<&str>, wanted: Option<&str>) -> Result<Vec<RawFd>> {
        select(Some(pid), Some(fds), names, PID, wanted)
    }

    #[test]
    fn descriptors_are_chosen_by_name() {
        assert_eq!(chosen("77", "2", None, None).unwrap(), [3, 4]);
        assert_eq!(chosen("77", "3", Some("a:b:a"), None).unwrap(), [3, 4, 5]);
        assert_eq!(chosen("77", "3", Some("a:b:a"), Some("a")).unwrap(), [3, 5]);
        assert_eq!(chosen("77", "3", Some("a:b:a"), Some("b")).unwrap(), [4]);
        // More names than descriptors: the number counts.
        assert_eq!(chosen("77", "1", Some("a:a"), Some("a")).unwrap(), [3]);
    }

    #[test]
    fn each_reason_for_none_is_said() {
        let refused = |made: Result<Vec<RawFd>>, why: &str| {
            let error = made.unwrap_err();
            assert_eq!(error.status, Status::NotFound);
            assert!(error.detail.contains(why), "{error}");
        };
        refused(select(None, Some("1"), None, PID, None), "LISTEN_PID is not set");
        refused(select(Some("77"), None, None, PID, None), "LISTEN_FDS is not set");
        refused(chosen("78", "1", None, None), "LISTEN_PID is 78");
        refused(chosen("x", "1", None, None), "LISTEN_PID is x");
        for fds in ["", "x", "-1", "2147483647", "99999999999"] {
            refused(chosen("77", fds, None, None), "not a number");
        }
        refused(chosen("77", "0", None, None), "LISTEN_FDS is 0");
        refused(chosen("77", "1", None, Some("a")), "LISTEN_FDNAMES is not set");
        refused(chosen("77", "1", Some("b:a"), Some("a")), "b:a");
    }

    proptest! {
        #[test]
        fn every_descriptor_has_one_name(names in proptest::collection::vec("[a-c]", 1..9)) {
            let (count, list) = (names.len().to_string(), names.join(":"));
            let mut all: Vec<RawFd> = ["a", "b", "c"]
                .iter()
                .flat_map(|name| chosen("77", &count, Some(&list), Some(name)).unwrap_or_default())
                .collect();
            all.sort_unstable();
            prop_assert_eq!(all, chosen("77", &count, Some(&list), None).unwrap());
        }
    }

    #[test]
    fn a_state_is_sent_to_a_path_or_a_name() {
        let name = format!("ahoy-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let receive = |socket: &Socket| {
            let mut text = [0; 64];
            let count = (&mut &*socket).read(&mut text).unwrap();
            String::from_utf8(text[..count].to_vec()).unwrap()
        };
        for (address, bound) in [
            (path.clone().into_os_string(), SockAddr::unix(&path).unwrap()),
            (format!("@{name}").into(), SockAddr::unix(format!("\0{name}")).unwrap()),
        ] {
            let socket = Socket::new(Domain::UNIX, Type::DGRAM, None).unwrap();
            socket.bind(&bound).unwrap();
            notify_at(&address, "READY=1").unwrap();
            assert_eq!(receive(&socket), "READY=1");
        }
        // Nobody is there any more.
        assert_eq!(notify_at(path.as_os_str(), "READY=1").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        std::fs::remove_file(&path).unwrap();
        assert!(notify_at(path.as_os_str(), "READY=1").is_err());
        assert!(notify_at(OsStr::new("vsock:2:1234"), "READY=1").is_err());
    }

    /// What the environment says shows only in a process that was started with it: this test binary again, by way
    /// of a shell that knows its own process id.
    #[test]
    fn a_process_finds_what_it_was_started_with() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let path = std::env::temp_dir().join(format!("ahoy-activated-{}", std::process::id()));
        let notified = UnixDatagram::bind(&path).unwrap();
        let script = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=other:web exec \"$@\" 3</dev/null 4<&0";
        let run = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "net::systemd::tests::activated", "--ignored", "--test-threads=1"])
            .env("NOTIFY_SOCKET", &path)
            .env("AHOY_TEST_URL", format!("tcp://{address}"))
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .output()
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && output.contains("1 passed"), "{output}");
        let mut text = [0; 64];
        let count = notified.recv(&mut text).unwrap();
        assert_eq!(&text[..count], b"READY=1");
    }

    #[test]
    #[ignore = "runs in a process that is started for it"]
    fn activated() {
        let mode = ListenMode { backlog: 1, reuse_port: false, blocking: false, copies: 4 };
        let open = |url: &str| Listener::open(&Endpoint::parse(url).unwrap(), mode);
        let listeners = open("systemd:web").unwrap();
        let [listener] = &listeners[..] else { panic!("one socket has this name") };
        assert_eq!(listener.url(), std::env::var("AHOY_TEST_URL").unwrap());
        listener.commit();
        let client = TcpStream::connect(listener.url().strip_prefix("tcp://").unwrap()).unwrap();
        drop(listener.accept().unwrap());
        drop(client);
        // The original stays, for another start in this process, but not for its children.
        assert!(sys::is_open(4) && open("systemd:web").is_ok());
        let inherited = Command::new("sh").args(["-c", "test ! -e /proc/self/fd/4"]).status().unwrap();
        assert!(inherited.success());
        assert_eq!(open("systemd:other").unwrap_err().status, Status::BadDescriptor);
        assert_eq!(open("systemd:").unwrap_err().status, Status::BadDescriptor);
        assert_eq!(open("systemd:none").unwrap_err().status, Status::NotFound);
        assert!(notify("READY=1").unwrap());
    }
}
