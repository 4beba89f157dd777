//! What a Rust server is made of from well-known parts: glommio's executor, fastwebsockets on top.

use super::{any_port, say_ready};
use anyhow::{Context, Result, anyhow, ensure};
use fastwebsockets::{Frame, OpCode, Role, WebSocket};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use tidegate_ws::server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// Echoes until the process ends.
pub(super) fn serve(core: usize) -> Result<()> {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .spawn(accept_all)
        .map_err(|error| anyhow!("glommio does not start: {error}"))?;
    executor.join().map_err(|error| anyhow!("glommio has stopped: {error}"))?
}

async fn accept_all() -> Result<()> {
    let failed = |error| anyhow!("glommio: {error}");
    let listener = TcpListener::bind(any_port()).map_err(failed)?;
    say_ready(listener.local_addr().map_err(failed)?)?;
    loop {
        let stream = listener.accept().await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        glommio::spawn_local(async move {
            // A connection that fails has failed for its peer too, which counts.
            let _ = echo(stream.compat()).await;
        })
        .detach();
    }
}

async fn echo(mut stream: Compat<TcpStream>) -> Result<()> {
    upgrade(&mut stream).await?;
    let mut socket = WebSocket::after_handshake(stream, Role::Server);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => {
                // A received frame keeps its mask, and would be written as a masked one with a payload that is not.
                let answer = Frame::new(frame.fin, frame.opcode, None, frame.payload);
                socket.write_frame(answer).await?;
            }
            _ => {}
        }
    }
}

/// The opening handshake; its bytes are ours because fastwebsockets' own wants an HTTP stack.
async fn upgrade(stream: &mut Compat<TcpStream>) -> Result<()> {
    let mut head = Vec::new();
    let mut response = Vec::new();
    loop {
        ensure!(stream.read_buf(&mut head).await? > 0, "the peer has gone");
        if let Some(upgrade) = server::parse(&head).context("a bad handshake")? {
            server::accept_response(&mut response, &upgrade.key, None);
            break;
        }
    }
    stream.write_all(&response).await.context("cannot answer the handshake")
}
