//! The admin endpoint: `/healthz`, `/readyz`, `/metrics`, `/stats`, on an address and a thread of its own.

mod sockets;

use crate::limits::ADMIN_REQUEST_WAIT;
use crate::pump::News;
use crate::signals;
use crate::stats::{Board, Exporter, Phase, figures, to_json};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use sockets::Sockets;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::Sender;

#[derive(Clone)]
struct Admin {
    board: Arc<Board>,
    exporter: Arc<Exporter>,
}

/// The routes over a board.
pub fn routes(board: Arc<Board>) -> Router {
    let exporter = Arc::new(Exporter::new(Arc::clone(&board)));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/stats", get(stats))
        .with_state(Admin { board, exporter })
}

/// Starts the thread that serves the routes and listens for signals, for as long as the process lives.
///
/// # Errors
/// The system has no thread left, or refuses the handlers.
pub fn spawn(listener: TcpListener, board: Arc<Board>, news: Sender<News>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        signals::Signals::catch()?
    };
    let run = move || {
        runtime.block_on(async move {
            let stop = signals.serve(Arc::clone(&board), news);
            let served = async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(Sockets::new(listener, ADMIN_REQUEST_WAIT), routes(board)).await
            };
            let (served, ()) = tokio::join!(served, stop);
            if let Err(error) = served {
                tracing::error!(%error, "the admin endpoint ended");
            }
        });
    };
    std::thread::Builder::new().name(String::from("admin")).spawn(run).map(drop)
}

/// The process answers: that is all.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether clients should be sent here.
async fn readyz(State(admin): State<Admin>) -> Response {
    let refuse = |why: &'static str| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    let has = |path| admin.board.has(path);
    match admin.board.phase() {
        Phase::Starting if has(figures::NO_SEGMENT) => refuse("starting: a shard has no segment yet\n"),
        Phase::Starting => refuse("starting\n"),
        Phase::Draining => refuse("draining\n"),
        Phase::Ready if has(figures::LATCHED) => refuse("read-only: the log of a shard failed\n"),
        Phase::Ready if has(figures::NO_SEGMENT) => {
            refuse("no space: a shard has no segment, commands are refused\n")
        }
        Phase::Ready if has(figures::LOW_SPACE) => {
            refuse("low on space: the disk is nearly full, commands are refused\n")
        }
        Phase::Ready => "ready\n".into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.exporter.render() {
        Ok(text) => ([(header::CONTENT_TYPE, Exporter::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn stats(State(admin): State<Admin>) -> Json<serde_json::Value> {
    Json(to_json(&admin.board))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Measured;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;
    use tidegate_shard::ShardStats;

    /// Serves a board on a free port, for as long as the test runs.
    fn serve(board: Arc<Board>) -> SocketAddr {
        serve_with(board, ADMIN_REQUEST_WAIT)
    }

    fn serve_with(board: Arc<Board>, wait: Duration) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(Sockets::new(listener, wait), routes(board)).await.unwrap();
            });
        });
        address
    }

    fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// Half a request kept its socket, and a task, for as long as the process lived.
    #[test]
    fn half_a_request_is_let_go() {
        let address = serve_with(Arc::new(Board::new(1)), Duration::from_millis(50));
        for half in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nhost: admin\r\n"] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.write_all(half.as_bytes()).unwrap();
            let mut answer = Vec::new();
            let end = stream.read_to_end(&mut answer);
            assert!(end.is_ok() && answer.is_empty(), "{half:?}: {end:?} {answer:?}");
        }
    }

    #[test]
    fn readiness_follows_the_phase_and_the_log() {
        let board = Arc::new(Board::new(1));
        let address = serve(Arc::clone(&board));
        let check = |status: u16, word: &str| {
            let (found, body) = get(address, "/readyz");
            assert_eq!(found, status, "{body}");
            assert!(body.contains(word), "{body}");
        };
        check(503, "starting");
        assert_eq!(get(address, "/healthz"), (200, "ok\n".into()));
        board.enter(Phase::Ready);
        check(200, "ready");
        let base = ShardStats::default();
        let publish = |shard: &ShardStats| {
            board.publish(0, &Measured { shard: Some(shard), ..Measured::default() });
        };
        publish(&ShardStats { latched: true, ..base });
        check(503, "read-only");
        publish(&ShardStats { no_segment: true, low_space: true, ..base });
        check(503, "no segment");
        publish(&ShardStats { low_space: true, ..base });
        check(503, "nearly full");
        board.publish(0, &Measured::default());
        board.enter(Phase::Draining);
        check(503, "draining");
    }

    #[test]
    fn figures_are_served_in_both_forms() {
        let board = Arc::new(Board::new(2));
        let stats = ShardStats { sockets: 12, ..ShardStats::default() };
        board.publish(1, &Measured { shard: Some(&stats), ..Measured::default() });
        let address = serve(board);
        let (status, body) = get(address, "/stats");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, json["total"]["sockets"].as_u64()), (200, Some(12)));
        let (status, body) = get(address, "/metrics");
        assert!(status == 200 && body.contains("tidegate_sockets{shard=\"1\"} 12"), "{body}");
        assert_eq!(get(address, "/nothing").0, 404);
    }
}
