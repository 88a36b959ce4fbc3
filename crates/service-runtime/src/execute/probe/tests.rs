use axum::Router;

use super::*;
use crate::process::Process;
use crate::testing::free_port;

async fn probe(addr: SocketAddr) -> Result<(), String> {
    tokio::task::spawn_blocking(move || ready(addr).map_err(|error| format!("{error:#}"))).await.unwrap()
}

#[tokio::test]
async fn a_running_service_is_asked_whether_it_is_ready() {
    let process = Process::for_tests("test-service", "mainpc", "state");
    let addr = process.serve_admin(free_port(), Router::new()).await.unwrap();
    let bus = process.health.component("bus");
    bus.set_ready(false, "reconnecting");
    process.health.component("disk").set_ready(true, "fine");

    assert_eq!(probe(addr).await, Err("not ready: bus: reconnecting".to_owned()));
    bus.set_ready(true, "connected");
    assert_eq!(probe(addr).await, Ok(()));
}

#[tokio::test]
async fn a_service_that_listens_everywhere_is_asked_on_the_loopback() {
    let process = Process::for_tests("test-service", "mainpc", "state");
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let addr = process.serve_admin(everywhere, Router::new()).await.unwrap();
    assert!(addr.ip().is_unspecified());
    assert_eq!(probe(addr).await, Ok(()));
    assert_eq!(reachable("::".parse().unwrap()), Ipv6Addr::LOCALHOST);
    assert_eq!(reachable("192.0.2.7".parse().unwrap()), IpAddr::from([192, 0, 2, 7]));
}

#[tokio::test]
async fn nobody_listening_is_not_ready() {
    let addr = std::net::TcpListener::bind(free_port()).unwrap().local_addr().unwrap();
    let error = probe(addr).await.unwrap_err();
    assert!(error.starts_with(&format!("not ready: no answer from {addr}: ")), "{error}");
}

#[test]
fn another_program_on_the_port_is_not_ready() {
    let listener = std::net::TcpListener::bind(free_port()).unwrap();
    let addr = listener.local_addr().unwrap();
    let stranger = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // All of the request: closing with a part of it unread would reset the connection.
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let error = ready(addr).unwrap_err().to_string();
    stranger.join().unwrap();
    assert_eq!(error, format!("not ready: {addr} answered with status \"404\""));
}
