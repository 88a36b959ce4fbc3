//! metrics-forwarder
