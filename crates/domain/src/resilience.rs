//! How the system holds when others fail. Policies only: time and chance are arguments.

pub mod retry;
