//! The pieces of an answer, put together.

use wire::v1;

/// What came so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) reasoning: String,
    pub(super) decision: Option<v1::Decision>,
}

impl Answer {
    pub(super) fn add(&mut self, delta: v1::Delta) {
        for item in delta.items {
            self.text.push_str(&item.text);
            self.reasoning.push_str(&item.reasoning);
        }
    }
}
