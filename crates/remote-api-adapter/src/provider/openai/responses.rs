//! OpenAI's Responses interface, for models that have no other (`api = "responses"`).
//!
//! A conversation is a list of items here. Those that chat has no word for (reasoning with its encrypted content, searches)
//! go out beside the text or the call they led to as `output_items`, as they stand, and are understood there when the message
//! comes back; nothing is stored at OpenAI unless the caller says so.
//! Reference: <https://platform.openai.com/docs/api-reference/responses>.

pub(super) mod decode;
pub(super) mod encode;
mod input;
pub(super) mod stream;
