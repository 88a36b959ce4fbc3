//! How likely a model took a token to be.

/// The chosen token and the likeliest ones, as the model saw them: before temperature, penalties and grammar.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token that was chosen.
    pub token: Likelihood,
    /// The likeliest tokens, best first; as many as were asked for.
    pub top: Vec<Likelihood>,
}

/// A token and the natural logarithm of its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihood {
    /// What it stands for; may be part of a character.
    pub bytes: Vec<u8>,
    /// At most 0.
    pub logprob: f32,
}

/// Logarithms of probabilities of one token and of the `top` likeliest, by index into the logits.
pub(crate) fn of(logits: &[f32], chosen: usize, top: usize) -> (f32, Vec<(usize, f32)>) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a count of tokens")]
    let norm = largest + sum.ln() as f32;
    let logprob = |index: usize| logits.get(index).map_or(f32::NEG_INFINITY, |logit| (logit - norm).min(0.0));
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let better = |one: &usize, other: &usize| logprob(*other).total_cmp(&logprob(*one)).then(one.cmp(other));
    let count = top.min(order.len());
    if count > 0 && count < order.len() {
        order.select_nth_unstable_by(count, better);
    }
    order.truncate(count);
    order.sort_unstable_by(better);
    (logprob(chosen), order.into_iter().map(|index| (index, logprob(index))).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_logits_are_equally_likely() {
        let (chosen, top) = of(&[2.0; 4], 3, 2);
        assert!((chosen - 0.25_f32.ln()).abs() < 1e-6);
        assert_eq!(top.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1]);
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one_and_come_best_first(
            logits in prop::collection::vec(-30.0f32..30.0, 1..200), chosen: prop::sample::Index
        ) {
            let chosen = chosen.index(logits.len());
            let (of_chosen, all) = of(&logits, chosen, logits.len());
            let sum: f64 = all.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-3, "{}", sum);
            prop_assert!(all.is_sorted_by(|one, other| one.1 >= other.1));
            prop_assert_eq!(all.iter().find(|(index, _)| *index == chosen).unwrap().1, of_chosen);
            let (_, few) = of(&logits, chosen, 3);
            prop_assert_eq!(&few[..], &all[..few.len()]);
        }
    }
}
