//! local-model-pool
