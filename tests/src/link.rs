//! A connection between two machines that can be cut and healed: a TCP proxy on loopback.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The link. Dropping it cuts it for good.
#[derive(Debug)]
pub struct Link {
    port: u16,
    whole: watch::Sender<bool>,
    _serving: JoinSet<()>,
}

impl Link {
    /// Takes connections and hands them on to `to`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the link")?;
        let port = listener.local_addr()?.port();
        let (whole, state) = watch::channel(true);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, to, state));
        Ok(Self { port, whole, _serving: serving })
    }

    /// Where to connect.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks every connection and takes none until [`Link::heal`].
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Takes connections again.
    pub fn heal(&self) {
        self.whole.send_replace(true);
    }
}

async fn serve(listener: TcpListener, to: SocketAddr, state: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => {
                let Ok((near, _)) = taken else { continue };
                if *state.borrow() {
                    connections.spawn(carry(near, to, state.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries bytes both ways until an end closes or the link is cut.
async fn carry(mut near: TcpStream, to: SocketAddr, mut state: watch::Receiver<bool>) {
    let carrying = async {
        let mut far = TcpStream::connect(to).await?;
        copy_bidirectional(&mut near, &mut far).await
    };
    tokio::select! {
        _ = carrying => {}
        _ = state.wait_for(|whole| !whole) => {}
    }
}
