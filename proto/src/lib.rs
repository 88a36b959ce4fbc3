//! The public contract lives in `llm/v1/*.proto`. This package only checks it: it depends on nothing of ours, so that the
//! messages in `crates/wire` can be generated anew when they do not compile.
