//! tokio: as its documentation does it: a task for each connection, on a runtime of one thread. Mode framed is
//! tokio-util's codec for lengths: `forward` flushes when no whole message is left.

use ahoy_peers::{BACKLOG, GREETING, MESSAGE_BYTES_MAX, READ_BYTES};
use futures_util::{StreamExt, TryStreamExt};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::codec::LengthDelimitedCodec;

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    // Not filled with zeros: what is never read into costs no memory.
    let mut buffer = Vec::with_capacity(READ_BYTES);
    while stream.read_buf(&mut buffer).await? > 0 {
        stream.write_all(&buffer).await?;
        buffer.clear();
    }
    Ok(())
}

async fn greet(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 512];
    stream.read(&mut buffer).await?;
    stream.write_all(GREETING).await
}

async fn framed(stream: TcpStream) -> io::Result<()> {
    let codec = LengthDelimitedCodec::builder().max_frame_length(MESSAGE_BYTES_MAX).new_framed(stream);
    let (sink, messages) = codec.split();
    messages.map_ok(|message| message.freeze()).forward(sink).await
}

async fn serve(mode: &str, port: u16) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let listener = socket.listen(BACKLOG.into())?;
    ahoy_peers::listens(listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        // A connection that ends in an error is over; the others go on.
        match mode {
            "greet" => drop(tokio::spawn(greet(stream))),
            "framed" => drop(tokio::spawn(framed(stream))),
            _ => drop(tokio::spawn(echo(stream))),
        }
    }
}

fn main() -> io::Result<()> {
    let arguments = ahoy_peers::arguments(&["echo", "greet", "framed"], env!("VERSION_TOKIO"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(serve(&arguments.mode, arguments.port))
}
