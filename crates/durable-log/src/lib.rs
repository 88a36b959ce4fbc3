//! durable-log.
