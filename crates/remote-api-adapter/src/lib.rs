//! remote-api-adapter
