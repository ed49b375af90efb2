//! Questions to peers that are plain threads with sockets of the standard library.

use super::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Socket, Type};

use crate::framing::Order;

/// As long as no test should take: whatever hangs ends then.
const PATIENCE_MS: u32 = 60_000;
const ANSWER_BYTES_MAX: usize = 1 << 20;

fn options(framing: Framing) -> RequestOptions {
    RequestOptions { framing, timeout_ms: PATIENCE_MS, idempotent: false }
}

fn raw(timeout_ms: u32, idempotent: bool) -> RequestOptions {
    RequestOptions { framing: Framing::Raw, timeout_ms, idempotent }
}

fn ask(urls: &str, options: &RequestOptions, question: &[u8]) -> Result<Vec<u8>> {
    answer(urls, options, question, ANSWER_BYTES_MAX)
}

#[track_caller]
fn assert_fails(status: Status, result: Result<Vec<u8>>) {
    let error = result.expect_err("no answer");
    assert_eq!(error.status, status, "{error}");
    assert!(!error.detail.is_empty());
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// A peer that takes one connection and does as it likes with it.
fn peer(body: impl FnOnce(TcpStream) + Send + 'static) -> (JoinHandle<()>, String) {
    let (listener, url) = listen();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS.into()))).unwrap();
        body(stream);
    });
    (thread, url)
}

fn read_exactly(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, expected);
}

/// Waits until the other side has closed.
fn read_to_end(stream: &mut TcpStream) {
    // A reset is an end as well.
    while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
}

fn framed(framing: &Framing, message: &[u8]) -> Vec<u8> {
    let frame = framing.frame(message.len()).unwrap();
    [frame.prefix(), message, frame.suffix()].concat()
}

#[test]
fn one_question_and_one_answer_in_each_framing() {
    let framings = [
        Framing::Lines,
        Framing::length(1, Order::Big).unwrap(),
        Framing::length(2, Order::Little).unwrap(),
        Framing::length(4, Order::Big).unwrap(),
        Framing::delimiter(b"--").unwrap(),
    ];
    for framing in framings {
        for (question, answer) in [(&b"what?"[..], &b"that"[..]), (b"", b"a"), (b"a", b""), (b"-a", b"-b")] {
            let (expected, reply) = (framed(&framing, question), framed(&framing, answer));
            let (thread, url) = peer(move |mut stream| {
                read_exactly(&mut stream, &expected);
                // Piece by piece, and more than was asked for.
                stream.set_nodelay(true).unwrap();
                reply.chunks(1).for_each(|piece| stream.write_all(piece).unwrap());
                // It may be gone already.
                let _ = stream.write_all(&reply);
                read_to_end(&mut stream);
            });
            assert_eq!(ask(&url, &options(framing.clone()), question).unwrap(), answer, "{framing}");
            thread.join().unwrap();
        }
    }
}

#[test]
fn the_url_decides_on_the_framing() {
    let (thread, url) = peer(|mut stream| {
        read_exactly(&mut stream, b"what?\n");
        stream.write_all(b"that\r\n").unwrap();
        read_to_end(&mut stream);
    });
    let length = options(Framing::length(4, Order::Big).unwrap());
    assert_eq!(ask(&format!("{url}?framing=lines"), &length, b"what?").unwrap(), b"that");
    thread.join().unwrap();
    let too_long = ask("tcp://127.0.0.1:1?framing=length&length_bytes=1", &length, &[b'x'; 256]);
    assert_fails(Status::TooLong, too_long);
}

/// Nobody listens there, and nobody else gets the port.
fn refusing() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let url = format!("tcp://{}", socket.local_addr().unwrap().as_socket().unwrap());
    (socket, url)
}

/// With a backlog of 0 one connection waits; the system throws away what comes after it.
fn black_hole() -> (Socket, TcpStream, String) {
    let (socket, url) = refusing();
    socket.listen(0).unwrap();
    let filler = TcpStream::connect(socket.local_addr().unwrap().as_socket().unwrap()).unwrap();
    let until_ms = sys::now_ms() + u64::from(PATIENCE_MS);
    assert_eq!(sys::poll([(socket.as_raw_fd(), libc::POLLIN)], Some(until_ms)).unwrap(), [true]);
    (socket, filler, url)
}

fn greeter() -> (JoinHandle<()>, String) {
    peer(|mut stream| {
        read_exactly(&mut stream, b"hi");
        stream.write_all(b"hello").unwrap();
        read_to_end(&mut stream);
    })
}

#[test]
fn those_that_cannot_be_reached_are_passed_by() {
    let (_socket, refused) = refusing();
    let (_hole, _filler, hole) = black_hole();
    let (thread, url) = greeter();
    let list = format!("{refused}, unix:@nobody-listens-here-{}, {hole}, {url}", std::process::id());
    let begin_ms = sys::now_ms();
    assert_eq!(ask(&list, &raw(2_000, false), b"hi").unwrap(), b"hello");
    assert!(sys::now_ms() - begin_ms >= 990, "the black hole has its share of the time");
    thread.join().unwrap();

    assert_fails(Status::Refused, ask(&refused, &raw(0, false), b"hi"));
    assert_fails(Status::Refused, ask(&format!("{hole},{refused}"), &raw(1_000, false), b"hi"));
    assert_fails(Status::Timeout, ask(&format!("{refused},{hole}"), &raw(100, false), b"hi"));
    assert_fails(Status::NotFound, ask("unix:/nowhere/at/all", &raw(0, false), b"hi"));
    assert_fails(Status::Url, ask(&format!("{url},fd:0"), &raw(0, false), b"hi"));
}

#[test]
fn a_black_hole_does_not_outlast_the_deadline() {
    let (_hole, _filler, hole) = black_hole();
    let begin_ms = sys::now_ms();
    assert_fails(Status::Timeout, ask(&hole, &raw(150, false), b"hi"));
    let spent_ms = sys::now_ms() - begin_ms;
    assert!((149..10_000).contains(&spent_ms), "{spent_ms} ms");
}

#[test]
fn the_next_address_of_a_name_starts_while_the_first_is_silent() {
    let (_hole, _filler, hole) = black_hole();
    let (thread, url) = greeter();
    let address = |url: &str| SockAddr::from(url[6..].parse::<SocketAddr>().unwrap());
    let mut addresses = VecDeque::from([address(&hole), address(&url), address(&hole)]);
    let endpoint = Endpoint::parse("tcp://name:1").unwrap();
    let begin_ms = sys::now_ms();
    let socket = race::connect(&endpoint, &mut addresses, begin_ms + u64::from(PATIENCE_MS)).unwrap();
    assert!(sys::now_ms() - begin_ms >= 249);
    assert_eq!(addresses.len(), 1, "what was not needed is left");
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    assert_eq!(stream.peer_addr().unwrap().to_string(), url[6..]);
    stream.write_all(b"hi").unwrap();
    read_exactly(&mut stream, b"hello");
    drop(stream);
    thread.join().unwrap();
}

#[test]
fn the_addresses_of_a_name_stand_in_for_each_other() {
    // It may have an IPv6 address, too, where nobody listens.
    let (thread, url) = greeter();
    let url = url.replace("127.0.0.1", "localhost");
    assert_eq!(ask(&url, &raw(0, false), b"hi").unwrap(), b"hello");
    thread.join().unwrap();
}

#[test]
fn who_has_the_question_is_replaced_only_if_it_may_be_asked_twice() {
    for idempotent in [false, true] {
        let (thread, breaker) = peer(|mut stream| read_exactly(&mut stream, b"hi"));
        let (second, url) = listen();
        let second = thread::spawn(move || {
            let mut questions = 0;
            // The last one comes from this test itself.
            while let Ok((mut stream, _)) = second.accept() {
                let mut bytes = [0; 2];
                if stream.read_exact(&mut bytes).is_err() {
                    break;
                }
                questions += 1;
                stream.write_all(b"hello").unwrap();
            }
            questions
        });
        let answer = ask(&format!("{breaker},{url}"), &raw(0, idempotent), b"hi");
        drop(TcpStream::connect(&url[6..]).unwrap());
        assert_eq!(second.join().unwrap(), i32::from(idempotent));
        if idempotent {
            assert_eq!(answer.unwrap(), b"hello")
        } else {
            assert_fails(Status::Eof, answer)
        }
        thread.join().unwrap();
    }
}

#[test]
fn a_peer_that_says_nothing_is_given_its_time() {
    let (silent, silent_url) = listen();
    let begin_ms = sys::now_ms();
    let (alive, url) = listen();
    assert_fails(Status::Timeout, ask(&format!("{silent_url},{url}"), &raw(200, false), b"hi"));
    assert!(sys::now_ms() - begin_ms >= 199);
    alive.set_nonblocking(true).unwrap();
    assert!(alive.accept().is_err(), "it was not asked");
    drop((alive, silent));

    // Where the question may be repeated, there is time for the next one.
    let (silent, silent_url) = listen();
    let (thread, url) = greeter();
    assert_eq!(ask(&format!("{silent_url},{url}"), &raw(2_000, true), b"hi").unwrap(), b"hello");
    thread.join().unwrap();
    drop(silent);
}

#[test]
fn an_answer_that_trickles_does_not_outlast_the_deadline() {
    let (thread, url) = peer(|mut stream| {
        // As fast as it can, so that there is always something to read; without end.
        while stream.write_all(b"x").is_ok() {}
    });
    let begin_ms = sys::now_ms();
    let delimiter = RequestOptions { timeout_ms: 200, ..options(Framing::delimiter(b"END").unwrap()) };
    assert_fails(Status::Timeout, answer(&url, &delimiter, b"hi", usize::MAX / 2));
    let spent_ms = sys::now_ms() - begin_ms;
    assert!((199..10_000).contains(&spent_ms), "{spent_ms} ms");
    thread.join().unwrap();
}

#[test]
fn an_answer_has_to_fit() {
    let cases = [
        (Framing::Raw, &b"123456"[..]),
        (Framing::Lines, b"123456"),
        (Framing::length(4, Order::Big).unwrap(), b"\0\0\0\x06"),
        (Framing::delimiter(b"--").unwrap(), b"1234567"),
    ];
    for (framing, bytes) in cases {
        let question = framed(&framing, b"hi");
        let (thread, url) = peer(move |mut stream| {
            read_exactly(&mut stream, &question);
            stream.write_all(bytes).unwrap();
            // It stays, so that only the length can be the reason.
            read_to_end(&mut stream);
        });
        assert_fails(Status::TooLong, answer(&url, &options(framing), b"hi", 5));
        thread.join().unwrap();
    }
    let (thread, url) = greeter();
    assert_eq!(answer(&url, &raw(0, false), b"hi", 5).unwrap(), b"hello");
    thread.join().unwrap();
}

#[test]
fn half_an_answer_is_none() {
    for framing in [Framing::Lines, Framing::length(4, Order::Big).unwrap()] {
        let question = framed(&framing, b"hi");
        let (thread, url) = peer(move |mut stream| {
            read_exactly(&mut stream, &question);
            stream.write_all(b"\0\0\0\x06half").unwrap();
        });
        assert_fails(Status::Eof, ask(&url, &options(framing), b"hi"));
        thread.join().unwrap();
    }
}

#[test]
fn a_peer_that_answers_while_it_still_listens_does_not_stop_the_question() {
    const BYTES: usize = 16 << 20;
    let (thread, url) = peer(|mut stream| {
        // An echo server without a buffer: it reads no more while nobody reads what it sends.
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
    });
    let question = vec![b'x'; BYTES];
    let answer = answer(&url, &options(Framing::length(4, Order::Big).unwrap()), &question, BYTES).unwrap();
    assert!(answer == question);
    thread.join().unwrap();
}

#[test]
fn an_answer_counts_also_if_the_question_was_not_heard() {
    let (thread, url) = peer(|mut stream| {
        stream.write_all(b"too busy\n").unwrap();
        // Closing with a question unread resets the connection.
        stream.peek(&mut [0]).unwrap();
    });
    let question = vec![b'x'; 16 << 20];
    assert_eq!(ask(&url, &options(Framing::Lines), &question).unwrap(), b"too busy");
    thread.join().unwrap();
}

#[test]
fn who_speaks_first_is_asked_nothing() {
    let (thread, url) = peer(|mut stream| {
        stream.write_all(b"hello").unwrap();
        read_to_end(&mut stream);
    });
    assert_eq!(ask(&url, &raw(0, false), b"").unwrap(), b"hello");
    thread.join().unwrap();
}

#[test]
fn a_socket_that_is_connected_to_itself_is_refused() {
    let (socket, _) = refusing();
    socket.connect(&socket.local_addr().unwrap()).unwrap();
    let error = crate::net::outcome(&socket).unwrap_err();
    assert_eq!(Status::from(&error), Status::Refused);
}

#[test]
fn datagrams_are_asked_and_answer() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // Where nobody listens on IPv6 the datagram is refused, and the name's next address is asked.
    let url = format!("udp://localhost:{}", socket.local_addr().unwrap().port());
    let thread = thread::spawn(move || {
        for _ in 0..4 {
            let mut bytes = [0; 64];
            let (count, from) = socket.recv_from(&mut bytes).unwrap();
            socket.send_to(&bytes[..count], from).unwrap();
        }
    });
    let lines = options(Framing::Lines);
    assert_eq!(ask(&url, &lines, b"hi").unwrap(), b"hi", "a datagram has no frame");
    assert_eq!(ask(&url, &raw(0, false), b"").unwrap(), b"");
    assert_eq!(answer(&url, &lines, b"12345", 5).unwrap(), b"12345");
    assert_fails(Status::TooLong, answer(&url, &lines, b"123456", 5));
    thread.join().unwrap();
    assert_fails(Status::Refused, ask(&url, &raw(0, false), b"hi"));
    assert_fails(Status::TooLong, ask(&url, &raw(0, false), &[0; 70_000]));
}

#[test]
fn unix_datagrams_find_the_way_back() {
    let name = format!("ahoy-client-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(&name).unwrap()).unwrap();
    let thread = thread::spawn(move || {
        let mut bytes = [0; 64];
        let (count, from) = socket.recv_from(&mut bytes).unwrap();
        socket.send_to_addr(&bytes[..count], &from).unwrap();
    });
    assert_eq!(ask(&format!("unixgram:@{name}"), &raw(0, false), b"hi").unwrap(), b"hi");
    thread.join().unwrap();
}

#[test]
fn a_unix_listener_with_a_full_queue_is_waited_for() {
    let name = format!("ahoy-client-queue-{}", std::process::id());
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let address = SockAddr::unix(format!("\0{name}")).unwrap();
    socket.bind(&address).unwrap();
    socket.listen(0).unwrap();
    let mut fillers = Vec::new();
    loop {
        match crate::net::open_toward(&address, false) {
            Ok((filler, is_connected)) => {
                assert!(is_connected && fillers.len() < 100);
                fillers.push(filler);
            }
            Err(error) => break assert_eq!(error.raw_os_error(), Some(libc::EAGAIN)),
        }
    }
    let url = format!("unix:@{name}");
    let begin_ms = sys::now_ms();
    assert_fails(Status::Timeout, ask(&url, &raw(100, false), b"hi"));
    assert!(sys::now_ms() - begin_ms >= 99);

    let listener = UnixListener::from(std::os::fd::OwnedFd::from(socket));
    let count = fillers.len();
    let thread = thread::spawn(move || {
        let waiting: Vec<_> = (0..count).map(|_| listener.accept().unwrap()).collect();
        drop(waiting);
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"hello").unwrap();
        let _ = stream.read(&mut [0; 64]);
    });
    assert_eq!(ask(&url, &raw(0, false), b"hi").unwrap(), b"hello");
    thread.join().unwrap();
}
