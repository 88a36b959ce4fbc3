//! Vectors of length 1 that follow from a text alone.

/// What a model gives unless it is asked for another length.
pub(super) const DIMENSIONS_DEFAULT: usize = 8;
pub(super) const DIMENSIONS_MAX: usize = 3_072;

/// FNV-1a, 64 bits.
pub(super) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// FNV-1a over the text and the dimension's number, mapped to -1 to 1, scaled to length 1.
pub(super) fn vector(text: &[u8], dimensions: usize) -> Vec<f32> {
    let hash = |number: usize| fnv1a(text.iter().copied().chain(number.to_le_bytes()));
    let raw: Vec<f32> = (0..dimensions)
        .map(|number| {
            let [_, _, _, _, _, a, b, _] = hash(number).to_le_bytes();
            f32::from(i16::from_le_bytes([a, b])) / 32_768.0
        })
        .collect();
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.into_iter().map(|value| value / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_texts_point_in_different_directions() {
        let (one, two) = (vector(b"one", 8), vector(b"two", 8));
        assert_ne!(one, two);
        assert_eq!(one, vector(b"one", 8));
        let length: f32 = one.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}
