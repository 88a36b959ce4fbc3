//! observability-hub
