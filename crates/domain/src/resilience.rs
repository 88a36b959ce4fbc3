//! What to do when something fails: pure rules with time and chance as arguments.
//!
//! Who owns what: [`breaker`] and [`key_ring`] are the adapter's, which sees every call to a provider; [`cooldown`] is the
//! coordinator's, which sees only attempts and adds what an adapter cannot know (an executor that is gone). An adapter that
//! refuses a call says for how long, and the coordinator leaves it alone for exactly that time: nothing is punished twice.

pub mod breaker;
pub mod cooldown;
pub mod health;
pub mod key_ring;
pub mod rate_limit;
pub mod retry;
