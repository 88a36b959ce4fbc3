//! A provider for tests: a real HTTP/1.1 server on a socket of its own that says, byte for byte, what it is told to.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinSet,
};

/// What the server does with one request.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Writes these bytes.
    Send(Vec<u8>),
    /// Waits for the test.
    Wait(Arc<Notify>),
    /// Tells the test.
    Tell(Arc<Notify>),
    /// Writes these bytes one by one, with a pause after each.
    Drip(Vec<u8>, Duration),
    /// Says nothing more and waits until the caller closes the connection.
    Hang,
    /// Closes the connection.
    Close,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) body: String,
}

/// A running server; it ends with this value.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    /// One message for each connection that the caller closed while it hung.
    pub(super) closed: mpsc::UnboundedReceiver<()>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// Serves the acts in order, one list for each request; the last one for all further requests.
    pub(super) async fn start(script: impl IntoIterator<Item = Vec<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (tell, closed) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let told = Arc::clone(&seen);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                served.spawn(serve(stream, Arc::clone(&script), Arc::clone(&told), tell.clone()));
            }
        });
        Self { address, seen, connections, closed, _tasks: tasks }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<Mutex<VecDeque<Vec<Act>>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    closed: mpsc::UnboundedSender<()>,
) {
    while let Some(request) = request(&mut stream).await {
        seen.lock().unwrap().push(request);
        let acts = {
            let mut script = script.lock().unwrap();
            if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() }
        };
        for act in acts {
            match act {
                Act::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Act::Wait(go_on) => go_on.notified().await,
                Act::Tell(told) => told.notify_one(),
                Act::Drip(bytes, pause) => {
                    for byte in bytes {
                        if stream.write_all(&[byte]).await.is_err() {
                            let _ = closed.send(());
                            return;
                        }
                        tokio::time::sleep(pause).await;
                    }
                }
                Act::Close => return,
                Act::Hang => {
                    while !matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)) {}
                    let _ = closed.send(());
                    return;
                }
            }
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap().to_ascii_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { head, body: String::from_utf8(bytes[head_end..].to_vec()).unwrap() })
}

/// A whole response with a JSON body.
pub(super) fn json(status: u16, headers: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    vec![Act::Send(response.into_bytes())]
}

/// The bytes of a response that streams, one HTTP chunk for each event.
pub(super) fn stream_bytes(events: &[u8]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: req-1\r\n\
                      transfer-encoding: chunked\r\n\r\n"
        .to_vec();
    for event in String::from_utf8(events.to_vec()).unwrap().split_inclusive("\n\n") {
        bytes.extend(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes());
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}
