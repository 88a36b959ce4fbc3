//! Ports for processes that cannot be told to choose one and say which.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, bail};

/// Ports of one [`Block`].
pub const BLOCK: usize = 16;
/// Below the range from which Linux takes ports by itself (32,768 to 60,999), so that no connection in passing and no
/// listener on port 0 can come in between.
const FIRST: u16 = 20_000;
/// Blocks there are: as many systems can run at once on a machine.
const BLOCKS: u16 = 750;

/// Neighbouring loopback ports that belong to nobody else among the tests of this machine until this is dropped: a process
/// can be started on one of them again after it was killed.
#[derive(Debug)]
pub struct Block {
    first: u16,
    /// The lock is the reservation; the system ends it with the process.
    _lock: File,
}

impl Block {
    /// Reserves a block.
    ///
    /// # Errors
    /// All are taken, or the folder of the locks cannot be written.
    pub fn reserve() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join("hybrid-llm-test-ports");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for number in 0..BLOCKS {
            let path = folder.join(format!("{number}.lock"));
            let lock = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
            if lock.try_lock().is_err() {
                continue;
            }
            let first = FIRST + number * BLOCK as u16;
            let block = Self { first, _lock: lock };
            // Somebody else's server may be there.
            if block.all().all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
                return Ok(block);
            }
        }
        bail!("all {BLOCKS} blocks of ports are taken")
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = u16> + use<> {
        (self.first..).take(BLOCK)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_share_no_port() {
        let (one, two) = (Block::reserve().unwrap(), Block::reserve().unwrap());
        assert_eq!(one.all().count(), BLOCK);
        assert!(one.all().all(|port| two.all().all(|other| other != port)));
    }
}
