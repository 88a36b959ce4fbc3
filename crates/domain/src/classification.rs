//! Rule R1 of the owner's action plan: what a request weighs.
//!
//! > • >3 k tokens per call = "Heavy"
//! > • GPU VRAM >5 GB or training loops = "Compute-Heavy-Local"
//! > • Sub-second response, small tensors = "Light"
//!
//! The second rule is asked first: work bound to the GPU stays local however long its prompt. What no rule names is light.

use crate::{
    inference::{Level, TaskProfile},
    units::{Bytes, Tokens},
};

/// What a request weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkloadClass {
    /// Small and quick; a local CPU is enough.
    Light,
    /// More tokens a call than a local model should chew on.
    Heavy,
    /// Needs the owner's own GPU.
    ComputeHeavyLocal,
}

impl WorkloadClass {
    /// The name in configuration, JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Heavy => "heavy",
            Self::ComputeHeavyLocal => "compute-heavy-local",
        }
    }
}

/// Where the classes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// More tokens a call than this is heavy.
    pub heavy: Tokens,
    /// More GPU memory than this is compute-heavy-local.
    pub compute_heavy_vram: Bytes,
    /// What an answer is taken to need when the caller's own bound is larger or absent.
    pub expected_output: Tokens,
}

impl Default for Thresholds {
    /// The owner's figures; 5 GB read as decimal, as on the box of a card.
    fn default() -> Self {
        Self {
            heavy: Tokens::new(3_000),
            compute_heavy_vram: Bytes::new(5_000_000_000),
            expected_output: Tokens::new(512),
        }
    }
}

/// The class of a request, and the rule that gave it in words.
#[must_use]
pub fn classify(
    input: Tokens,
    max_output: Option<Tokens>,
    profile: &TaskProfile,
    thresholds: &Thresholds,
) -> (WorkloadClass, String) {
    if profile.training {
        return (WorkloadClass::ComputeHeavyLocal, "a training loop is compute-heavy-local (R1)".to_owned());
    }
    if profile.vram > thresholds.compute_heavy_vram {
        let reason = format!(
            "needs {} of VRAM, over {} is compute-heavy-local (R1)",
            profile.vram, thresholds.compute_heavy_vram
        );
        return (WorkloadClass::ComputeHeavyLocal, reason);
    }
    let output = max_output.map_or(thresholds.expected_output, |max| max.min(thresholds.expected_output));
    let call = input + output;
    if call > thresholds.heavy {
        return (
            WorkloadClass::Heavy,
            format!("{call} tokens a call, over {} is heavy (R1)", thresholds.heavy),
        );
    }
    if profile.latency_sensitivity == Some(Level::High) {
        return (WorkloadClass::Light, format!("{call} tokens a call and sub-second: light (R1)"));
    }
    (WorkloadClass::Light, format!("{call} tokens a call, up to {} is light (R1)", thresholds.heavy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(input: u64, profile: &TaskProfile) -> WorkloadClass {
        classify(Tokens::new(input), Some(Tokens::ZERO), profile, &Thresholds::default()).0
    }

    #[test]
    fn exactly_three_thousand_tokens_are_light_and_one_more_is_heavy() {
        assert_eq!(class(3_000, &TaskProfile::default()), WorkloadClass::Light);
        assert_eq!(class(3_001, &TaskProfile::default()), WorkloadClass::Heavy);
    }

    #[test]
    fn training_and_large_vram_stay_local_whatever_the_prompt() {
        let training = TaskProfile { training: true, ..TaskProfile::default() };
        assert_eq!(class(10_000, &training), WorkloadClass::ComputeHeavyLocal);
        let vram = |bytes| TaskProfile { vram: Bytes::new(bytes), ..TaskProfile::default() };
        assert_eq!(class(10_000, &vram(5_000_000_001)), WorkloadClass::ComputeHeavyLocal);
        assert_eq!(class(10, &vram(5_000_000_000)), WorkloadClass::Light);
    }

    #[test]
    fn a_generous_bound_on_the_answer_does_not_make_a_request_heavy() {
        let thresholds = Thresholds::default();
        let (class, _) =
            classify(Tokens::new(50), Some(Tokens::new(100_000)), &TaskProfile::default(), &thresholds);
        assert_eq!(class, WorkloadClass::Light);
    }
}
