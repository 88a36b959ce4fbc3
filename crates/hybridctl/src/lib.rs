//! hybridctl
