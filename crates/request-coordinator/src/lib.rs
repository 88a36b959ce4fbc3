//! request-coordinator
