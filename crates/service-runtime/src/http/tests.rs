use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;
use crate::testing::{self, free_port};

struct Server {
    addr: SocketAddr,
    stop: CancellationToken,
    running: JoinSet<()>,
}

async fn start(router: Router, limits: Limits) -> Server {
    let listener = bind(free_port(), "test.listen").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(serve(listener, router, limits, stop.clone()));
    Server { addr, stop, running }
}

#[tokio::test]
async fn a_taken_address_is_named_with_its_setting() {
    let taken = bind(free_port(), "test.listen").await.unwrap();
    let addr = taken.local_addr().unwrap();
    let error = bind(addr, "test.listen").await.unwrap_err();
    assert_eq!((error.listen, error.key.as_str()), (addr, "test.listen"));
    assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(error.to_string(), format!("cannot listen on {addr} (setting test.listen)"));
}

#[tokio::test]
async fn a_handler_knows_its_peer() {
    let router = Router::new().route(
        "/peer",
        get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }),
    );
    let server = start(router, Limits::default()).await;
    let (status, answer) = testing::get(server.addr, "/peer").await;
    assert_eq!(status, 200);
    assert!(answer.ends_with("127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn a_client_that_never_ends_its_headers_is_cut_off() {
    let limits = Limits { header_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = start(Router::new(), limits).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
    let mut rest = Vec::new();
    // Ends only because the server closes the connection.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_slot() {
    let router = Router::new().route("/", get(|| async { "served" }));
    let server = start(router, Limits { connections_max: 1, ..Limits::default() }).await;

    let mut first = TcpStream::connect(server.addr).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = vec![0; "HTTP/1.1 200".len()];
    first.read_exact(&mut answer).await.unwrap();

    let mut second = std::pin::pin!(testing::get(server.addr, "/"));
    let early = tokio::time::timeout(Duration::from_millis(50), second.as_mut()).await;
    assert!(early.is_err(), "served while the only slot was taken");
    drop(first);
    assert_eq!(second.await.0, 200);
}

#[tokio::test]
async fn a_request_under_way_is_answered_after_the_stop() {
    let entered = Arc::new(Notify::new());
    let release = Arc::new(Notify::new());
    let (enter, wait) = (Arc::clone(&entered), Arc::clone(&release));
    let handler = move || async move {
        enter.notify_one();
        wait.notified().await;
        "late"
    };
    let mut server = start(Router::new().route("/", get(handler)), Limits::default()).await;
    let stopping = async {
        entered.notified().await;
        server.stop.cancel();
        release.notify_one();
    };
    let ((status, answer), ()) = tokio::join!(testing::get(server.addr, "/"), stopping);
    assert_eq!(status, 200);
    assert!(answer.ends_with("late"));
    server.running.join_next().await.unwrap().unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_up_the_stop() {
    let entered = Arc::new(Notify::new());
    let enter = Arc::clone(&entered);
    let handler = move || async move {
        enter.notify_one();
        std::future::pending::<&str>().await
    };
    let limits = Limits { drain_timeout: Duration::from_millis(20), ..Limits::default() };
    let mut server = start(Router::new().route("/", get(handler)), limits).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    entered.notified().await;
    server.stop.cancel();
    server.running.join_next().await.unwrap().unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}
