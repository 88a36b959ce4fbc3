//! The segment that is being written.
//!
//! The one place where writes and syncs happen, so that tests can make them fail the way a full disk does.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// A file that grows at its end.
#[derive(Debug)]
pub(crate) struct Medium {
    file: File,
    #[cfg(test)]
    pub(crate) faults: faults::Faults,
}

impl Medium {
    pub(crate) fn new(file: File) -> Self {
        Self {
            file,
            #[cfg(test)]
            faults: faults::Faults::default(),
        }
    }

    /// Writes everything at `offset`, or fails with part of it written.
    pub(crate) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        #[cfg(test)]
        if let Some(written) = self.faults.write.take() {
            self.file.write_all(&bytes[..written.min(bytes.len())])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all(bytes)
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        #[cfg(test)]
        if std::mem::take(&mut self.faults.sync) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.sync_data()
    }

    /// Removes everything from `length` on.
    pub(crate) fn cut(&mut self, length: u64) -> io::Result<()> {
        #[cfg(test)]
        if std::mem::take(&mut self.faults.cut) {
            return Err(io::Error::other("injected"));
        }
        self.file.set_len(length)
    }
}

#[cfg(test)]
pub(crate) mod faults {
    /// What fails next, once.
    #[derive(Debug, Default)]
    pub(crate) struct Faults {
        /// The next write stops after this many bytes, as on a full disk.
        pub(crate) write: Option<usize>,
        /// The next sync fails.
        pub(crate) sync: bool,
        /// The next cut fails.
        pub(crate) cut: bool,
    }
}
