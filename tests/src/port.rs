//! Ports for processes that cannot be told to choose one and say which.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context as _;

/// A loopback port that nobody listened on a moment ago. Prefer port 0 wherever the process reports what it got.
///
/// # Errors
/// The machine has no free port.
pub fn free() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free loopback port")?;
    Ok(listener.local_addr().context("cannot read the bound port")?.port())
}

/// `count` different ports, all free at the same moment.
///
/// # Errors
/// The machine has fewer free ports.
pub fn free_many(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free loopback port"))
        .collect::<anyhow::Result<Vec<_>>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr().context("cannot read the bound port")?.port()))
        .collect()
}
