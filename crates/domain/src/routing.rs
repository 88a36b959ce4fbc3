//! Where a request may run, and in which order to try.

/// Whether a request leaves the owner's machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plane {
    /// To a provider outside.
    Cloud,
    /// Stays on the owner's machines.
    Local,
}

impl Plane {
    /// The token in the executor subject.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Local => "local",
        }
    }
}
