//! What a model is loaded with less of after it ran out of memory, step by step.
//!
//! An estimate can be wrong and another program can be quicker, so an allocation can fail in spite of a lease. The same load
//! again would fail again. Each step gives up what hurts least of what helps:
//!
//! | ran out | first | then | last |
//! |---|---|---|---|
//! | at the load | half the context: the cache is what is largest beside the weights | a quarter of the batch | a quarter of the layers goes to the processor |
//! | while computing | a quarter of the batch: the buffers of a batch are what is allocated late | half the context | as above |
//!
//! The ladder is finite: each step is smaller than the one before, and below the floors there is none.

/// A context is not halved below this: shorter ones answer hardly any chat.
const CONTEXT_MIN: u32 = 2_048;
/// A batch is not made smaller than this: prompts would be read a token at a time.
const BATCH_MIN: u32 = 32;

/// How a model is loaded, as far as it can be less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Tokens for each slot.
    pub context: u32,
    /// Tokens computed at once.
    pub batch: u32,
    /// Layers on the GPU, at most as many as the model has.
    pub gpu_layers: u32,
}

/// When it ran out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before it was ready.
    Load,
    /// While it answered.
    Compute,
}

/// What a step gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Tokens of context.
    Context,
    /// Tokens of a batch.
    Batch,
    /// Layers on the GPU.
    GpuLayers,
}

impl Step {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Batch => "batch",
            Self::GpuLayers => "gpu_layers",
        }
    }
}

impl Fit {
    /// One step less; none at the foot of the ladder.
    #[must_use]
    pub fn step_down(self, moment: Moment) -> Option<(Self, Step)> {
        let order = match moment {
            Moment::Load => [Step::Context, Step::Batch, Step::GpuLayers],
            Moment::Compute => [Step::Batch, Step::Context, Step::GpuLayers],
        };
        order.into_iter().find_map(|step| self.less(step).map(|fit| (fit, step)))
    }

    fn less(self, step: Step) -> Option<Self> {
        match step {
            Step::Context => {
                let context = (self.context / 2).max(CONTEXT_MIN);
                (context < self.context).then_some(Self { context, ..self })
            }
            Step::Batch => {
                let batch = (self.batch / 4).max(BATCH_MIN);
                (batch < self.batch).then_some(Self { batch, ..self })
            }
            Step::GpuLayers => {
                let gpu_layers = self.gpu_layers - self.gpu_layers.div_ceil(4);
                (gpu_layers < self.gpu_layers).then_some(Self { gpu_layers, ..self })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Fit = Fit { context: 8_192, batch: 512, gpu_layers: 32 };

    fn ladder(moment: Moment) -> Vec<Step> {
        let mut fit = FULL;
        let mut steps = Vec::new();
        while let Some((less, step)) = fit.step_down(moment) {
            let shrunk =
                [less.context < fit.context, less.batch < fit.batch, less.gpu_layers < fit.gpu_layers];
            assert_eq!(shrunk.iter().filter(|it| **it).count(), 1, "{fit:?} {less:?}");
            fit = less;
            steps.push(step);
        }
        assert_eq!(fit, Fit { context: 2_048, batch: 32, gpu_layers: 0 });
        steps
    }

    #[test]
    fn the_ladder_begins_with_what_ran_out_and_ends_on_the_processor() {
        let load = ladder(Moment::Load);
        assert_eq!(
            load.get(..5),
            Some([Step::Context, Step::Context, Step::Batch, Step::Batch, Step::GpuLayers].as_slice())
        );
        let compute = ladder(Moment::Compute);
        assert_eq!(compute.get(..3), Some([Step::Batch, Step::Batch, Step::Context].as_slice()));
        assert!(load.len() < 20 && compute.len() < 20);
    }

    #[test]
    fn a_small_model_on_the_processor_has_nothing_to_give() {
        let small = Fit { context: 512, batch: 32, gpu_layers: 0 };
        assert_eq!(small.step_down(Moment::Load), None);
        assert_eq!(small.step_down(Moment::Compute), None);
    }
}
