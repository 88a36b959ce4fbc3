//! Files of messages, one after the other, each behind its length: protobuf's own delimited form.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    marker::PhantomData,
    path::Path,
};

use prost::Message;

/// Reads the messages of a file.
#[derive(Debug)]
pub(crate) struct Frames<T> {
    reader: BufReader<File>,
    at: u64,
    length: u64,
    kind: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Frames<T> {
    /// From a position that [`Frames::position`] gave; 0 is the first message.
    ///
    /// # Errors
    /// The disk; a position behind the end.
    pub(crate) fn open(file: &Path, at: u64) -> io::Result<Self> {
        let mut file = File::open(file)?;
        let length = file.metadata()?.len();
        if at > length {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the position is behind the end"));
        }
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { reader: BufReader::new(file), at, length, kind: PhantomData })
    }

    /// Where the next message begins.
    pub(crate) const fn position(&self) -> u64 {
        self.at
    }

    /// The next message; `None` at the end.
    ///
    /// # Errors
    /// The disk; bytes that are no such message.
    pub(crate) fn next(&mut self) -> io::Result<Option<T>> {
        if self.at >= self.length {
            return Ok(None);
        }
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut prefix = Vec::with_capacity(10);
        loop {
            let mut byte = [0];
            self.reader.read_exact(&mut byte)?;
            prefix.extend_from_slice(&byte);
            if byte.iter().all(|byte| byte & 0x80 == 0) {
                break;
            }
            if prefix.len() == 10 {
                return Err(broken("a length of more than ten bytes"));
            }
        }
        let size = prost::decode_length_delimiter(prefix.as_slice())?;
        let end = self.at + prefix.len() as u64 + size as u64;
        if end > self.length {
            return Err(broken("a message that is longer than its file"));
        }
        let mut bytes = vec![0; size];
        self.reader.read_exact(&mut bytes)?;
        self.at = end;
        Ok(Some(T::decode(bytes.as_slice())?))
    }
}

#[cfg(test)]
mod tests {
    use wire::v1::BatchItem;

    use super::*;

    #[test]
    fn messages_come_back_in_order_and_from_any_of_their_positions() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("items");
        let item = |name: String| BatchItem { custom_id: name, request: None };
        let bytes: Vec<u8> =
            (0..300).flat_map(|n| item("x".repeat(n)).encode_length_delimited_to_vec()).collect();
        std::fs::write(&file, &bytes).unwrap();
        let mut frames = Frames::<BatchItem>::open(&file, 0).unwrap();
        let mut positions = Vec::new();
        while let Some(read) = frames.next().unwrap() {
            assert_eq!(read.custom_id.len(), positions.len());
            positions.push(frames.position());
        }
        assert_eq!((positions.len(), positions[299]), (300, bytes.len() as u64));
        let mut later = Frames::<BatchItem>::open(&file, positions[199]).unwrap();
        assert_eq!(later.next().unwrap().unwrap().custom_id.len(), 200);
    }

    #[test]
    fn a_file_that_was_cut_is_an_error_not_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("items");
        let bytes = BatchItem { custom_id: "abc".to_owned(), request: None }.encode_length_delimited_to_vec();
        for kept in 1..bytes.len() {
            std::fs::write(&file, &bytes[..kept]).unwrap();
            assert!(Frames::<BatchItem>::open(&file, 0).unwrap().next().is_err(), "{kept} bytes");
        }
        assert!(Frames::<BatchItem>::open(&file, 99).is_err());
    }
}
