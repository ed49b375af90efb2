//! Clusters against what they are built on, pair by pair, in one run: `make bench-cluster`. The median of the pairs is shown, with
//! the least and the most, and written to docs/benchmarks.md. A NATS server of its own runs on loopback meanwhile.

#[path = "../compare/section.rs"]
mod section;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;

const PAIRS: usize = 7;
const MESSAGES: usize = 500_000;
const CALLS: usize = 5_000;
const LINES: usize = 2_000;
/// Of a fan-out: the nodes, the connections of each, the messages, and their bytes.
const NODES: usize = 3;
const CONNECTIONS: usize = 1_000;
const FANNED_OUT: usize = 3_000;
const FANNED_OUT_BYTES: usize = 64;

/// A program that ends with us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (Some(nats), Some(programs), Some(chat)) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: cluster NATS-SERVER PROGRAMS CHAT: see benches/cluster.sh");
        std::process::exit(2);
    };
    let programs = PathBuf::from(programs);
    let port = free_port();
    let broker = Command::new(nats).args(["-a", "127.0.0.1", "-p", &port.to_string()]).stderr(Stdio::null()).spawn();
    let _broker = Running(broker.expect("nats-server starts"));
    let address = format!("127.0.0.1:{port}");
    while TcpStream::connect(&address).is_err() {
        std::thread::yield_now();
    }
    let mut table = Table::new();
    for bytes in [16, 256] {
        let ours = || {
            program(
                &programs,
                "publish_ahoy",
                &[&format!("nats://{address}/bench"), "t", &MESSAGES.to_string(), &bytes.to_string()],
            )
        };
        let theirs = || {
            program(
                &programs,
                "publish_nats",
                &[&format!("nats://{address}"), "bench.topic.t", &MESSAGES.to_string(), &bytes.to_string()],
            )
        };
        table.compare(&format!("publishes of {bytes} B each second; nats.c"), "≥ 1.00", ours, theirs);
        let theirs = || publish_natively(&format!("nats://{address}"), bytes);
        table.compare(&format!("publishes of {bytes} B each second; async-nats itself"), "", ours, theirs);
    }
    let fan_out = |url: &str, nodes: usize| {
        let numbers = [nodes, NODES / nodes * CONNECTIONS, NODES / nodes, FANNED_OUT, FANNED_OUT_BYTES];
        let numbers = numbers.map(|number| number.to_string());
        let mut arguments = vec![url];
        arguments.extend(numbers.iter().map(String::as_str));
        program(&programs, "fanout", &arguments)
    };
    table.compare(
        &format!(
            "deliveries each second to {NODES} nodes × {CONNECTIONS}; one node with as many connections and workers"
        ),
        "≥ 0.90",
        || fan_out(&format!("nats://{address}/bench"), NODES),
        || fan_out("-", 1),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (ready, is_ready) = std::sync::mpsc::channel();
    let responder = format!("nats://{address}");
    std::thread::spawn(move || answer_calls(&responder, &ready));
    is_ready.recv().expect("the responder is ready");
    let ours = || program(&programs, "call_ahoy", &[&format!("nats://{address}/bench"), "echo", &CALLS.to_string()]);
    let theirs = || runtime.block_on(request(&format!("nats://{address}")));
    table.compare("a call, µs; async-nats' request", "≤ 1.15", ours, theirs);
    let mut times: Vec<f64> = (0..PAIRS).map(|_| chat_line(Path::new(&chat), &address)).collect();
    times.sort_by(f64::total_cmp);
    let (median, least, most) = (times[PAIRS / 2], times[0], times[PAIRS - 1]);
    table.row(&format!("a chat line from node to node, p50 µs | {median:.0} ({least:.0}, {most:.0}) | | | ≤ 500"));
    let file = Path::new("docs/benchmarks.md");
    section::write(file, "make bench-cluster", &table.0).expect("docs/benchmarks.md can be written");
    eprintln!("written to {}", file.display());
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// What is printed row by row, and written in the end.
struct Table(String);

impl Table {
    fn new() -> Self {
        let mut table = Self("## Clusters\n\n".to_owned());
        table.line("| figure | ours | theirs | ours / theirs: median (least, most) | asked |");
        table.line("|---|---|---|---|---|");
        table
    }

    fn line(&mut self, line: &str) {
        println!("{line}");
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn row(&mut self, cells: &str) {
        self.line(&format!("| {cells} |"));
    }

    /// Alternating pairs.
    fn compare(&mut self, figure: &str, asked: &str, ours: impl Fn() -> f64, theirs: impl Fn() -> f64) {
        let mut runs: Vec<(f64, f64, f64)> = (0..PAIRS)
            .map(|pair| {
                let (our, their) = if pair % 2 == 0 {
                    let our = ours();
                    (our, theirs())
                } else {
                    let their = theirs();
                    (ours(), their)
                };
                (our / their, our, their)
            })
            .collect();
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, our, their) = runs[PAIRS / 2];
        let (least, most) = (runs[0].0, runs[PAIRS - 1].0);
        self.row(&format!("{figure} | {our:.0} | {their:.0} | {ratio:.2} ({least:.2}, {most:.2}) | {asked}"));
    }
}

/// The number that a program prints.
fn program(programs: &Path, name: &str, arguments: &[&str]) -> f64 {
    let output = Command::new(programs.join(name)).args(arguments).output().expect(name);
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("{name}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// What the library under ours does by itself: how many messages a second it publishes, from a thread that is not the connection's.
fn publish_natively(url: &str, bytes: usize) -> f64 {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let url = url.to_owned();
    let connection = std::thread::spawn(move || {
        runtime().block_on(async {
            ready.send(async_nats::connect(url).await.expect("connect")).expect("somebody waits");
            let _ = ended.await;
        });
    });
    let client = is_ready.recv().expect("it is connected");
    let data = vec![b'x'; bytes];
    let began = Instant::now();
    runtime().block_on(async {
        for _ in 0..MESSAGES {
            client.publish("bench.topic.t".to_owned(), data.clone().into()).await.expect("publish");
        }
        client.flush().await.expect("flush");
    });
    let rate = MESSAGES as f64 / began.elapsed().as_secs_f64();
    let _ = end.send(());
    connection.join().expect("the connection ends");
    rate
}

/// The service that is called, by either.
fn answer_calls(url: &str, ready: &std::sync::mpsc::Sender<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = async_nats::connect(url).await.expect("connect");
        let mut calls = client.queue_subscribe("bench.service.echo", "q".to_owned()).await.expect("subscribe");
        client.flush().await.expect("flush");
        ready.send(()).expect("somebody waits");
        while let Some(call) = calls.next().await {
            if let Some(reply) = call.reply {
                client.publish(reply, call.payload).await.expect("answer");
            }
        }
    });
}

async fn request(url: &str) -> f64 {
    let client = async_nats::connect(url).await.expect("connect");
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let began = Instant::now();
        client.request("bench.service.echo", "hi".into()).await.expect("an answer");
        times.push(began.elapsed());
    }
    median_us(times)
}

fn median_us(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// How long what somebody says on one node takes to somebody on another.
fn chat_line(chat: &Path, address: &str) -> f64 {
    let nodes = [0, 1].map(|_| {
        let mut node = Command::new(chat)
            .args(["tcp://127.0.0.1:0", &format!("nats://{address}/chatbench")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("chat starts");
        let mut line = String::new();
        BufReader::new(node.stderr.take().expect("it is piped")).read_line(&mut line).expect("its address");
        let url = line.trim().rsplit("tcp://").next().expect("an address").to_owned();
        (Running(node), url)
    });
    let [mut speaker, mut listener] = [0, 1].map(|at| {
        let stream = TcpStream::connect(&nodes[at].1).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        stream
    });
    // Said again until it is heard: interest takes a moment to travel.
    let mut buffer = [0; 4096];
    let hear = |listener: &mut TcpStream, buffer: &mut [u8], wanted: &str| {
        let mut heard = String::new();
        while !heard.contains(wanted) {
            match listener.read(buffer) {
                Ok(count) if count > 0 => heard.push_str(&String::from_utf8_lossy(&buffer[..count])),
                _ => return false,
            }
        }
        true
    };
    loop {
        speaker.write_all(b"are you there\n").expect("say");
        if hear(&mut listener, &mut buffer, "are you there") {
            break;
        }
    }
    listener.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut times = Vec::with_capacity(LINES);
    for number in 0..LINES {
        let (said, mut own) = (format!("line-{number}-"), [0; 4096]);
        let began = Instant::now();
        speaker.write_all(format!("{said}\n").as_bytes()).expect("say");
        assert!(hear(&mut listener, &mut buffer, &said), "it was not heard");
        times.push(began.elapsed());
        // What comes back to the speaker is taken, so that nothing waits.
        let _ = speaker.read(&mut own);
    }
    median_us(times)
}
