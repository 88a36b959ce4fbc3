//! model-manager-suite
