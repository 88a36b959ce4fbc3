//! Counts server-sent events: lines that start with `data:`, wherever the reads cut them.

const FIELD: &[u8] = b"data:";

/// Where in a line the last read ended.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// So many bytes of the field's name have been seen from the start of the line.
    Matching(usize),
    /// In a line whose start is decided.
    Decided,
}

/// The state between reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Events(Place);

impl Default for Events {
    fn default() -> Self {
        Self(Place::Matching(0))
    }
}

impl Events {
    /// Events whose field name ends in `bytes`.
    pub(super) fn count(&mut self, bytes: &[u8]) -> u64 {
        let mut count = 0;
        for byte in bytes {
            self.0 = match self.0 {
                _ if *byte == b'\n' => Place::Matching(0),
                Place::Matching(seen) if FIELD.get(seen) == Some(byte) => {
                    if seen + 1 == FIELD.len() {
                        count += 1;
                        Place::Decided
                    } else {
                        Place::Matching(seen + 1)
                    }
                }
                Place::Matching(_) | Place::Decided => Place::Decided,
            };
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_wherever_the_reads_cut_them() {
        let stream =
            b": data: comment\n\ndata: {\"text\":\"data: no\"}\n\nevent: x\ndata:{}\n\r\ndata: [DONE]";
        for size in 1..=stream.len() {
            let mut events = Events::default();
            let count: u64 = stream.chunks(size).map(|bytes| events.count(bytes)).sum();
            assert_eq!(count, 3, "in reads of {size} bytes");
        }
    }
}
