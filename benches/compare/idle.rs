//! Load: connections that do nothing. Measured is what they cost the server in user-space memory.

use crate::meter::Sample;
use crate::scenarios::Metric;
use crate::server::Server;
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const MESSAGE: [u8; 64] = *b"a quiet connection owns no buffer, or so its server should say..";
const STALLED: Duration = Duration::from_secs(5);

/// The difference of the server's memory before and after, divided by the connections. Before: one
/// connection has been served already, so that what a server sets up once is in both.
pub(crate) fn run(server: &Server, connections: usize, used: bool) -> io::Result<Sample> {
    let first = connect(server)?;
    exchange(&first)?;
    let before = server.memory()?;
    let mut conns = Vec::with_capacity(connections);
    for _ in 0..connections {
        let conn = connect(server)?;
        if used {
            exchange(&conn)?;
        }
        conns.push(conn);
    }
    // Connections are accepted in their order, by one thread: when this one is answered, all are.
    let last = connect(server)?;
    exchange(&last)?;
    let after = server.memory()?;
    let bytes = (after as f64 - before as f64) / connections as f64;
    Ok(Sample::of(vec![(Metric::BytesPerConnection, bytes)]))
}

fn connect(server: &Server) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server.address)?;
    stream.set_read_timeout(Some(STALLED))?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

fn exchange(mut conn: &TcpStream) -> io::Result<()> {
    let mut answer = [0; MESSAGE.len()];
    conn.write_all(&MESSAGE)?;
    conn.read_exact(&mut answer)?;
    if answer == MESSAGE {
        Ok(())
    } else {
        Err(io::Error::new(ErrorKind::InvalidData, "the answer is not what was sent"))
    }
}
