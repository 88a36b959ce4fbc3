//! Bars of text.

use crate::output::Style;

/// Cells of the longest bar.
const WIDTH: u64 = 48;
/// Eighths of a cell.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// One line for each value: name, bar, text. The longest bar is the largest value; a value above zero always shows.
pub(super) fn bars(rows: &[(&str, u64, String)], style: Style) -> Vec<String> {
    let largest = rows.iter().map(|(_, value, _)| *value).max().unwrap_or(0).max(1);
    let names = rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    rows.iter()
        .enumerate()
        .map(|(index, (name, value, text))| {
            let eighths = u128::from(*value) * u128::from(WIDTH) * 8 / u128::from(largest);
            let eighths = usize::try_from(eighths).unwrap_or(0).max(usize::from(*value > 0));
            let part = EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
            let bar = format!("{}{part}", "█".repeat(eighths / 8));
            format!("{name:<names$}  {} {text}", style.nth(index, &bar))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let lines = bars(
            &[("all", 96, "96".to_owned()), ("b", 3, "3".to_owned()), ("c", 0, "0".to_owned())],
            Style::PLAIN,
        );
        assert_eq!(
            lines,
            [format!("all  {} 96", "█".repeat(48)), "b    █▌ 3".to_owned(), "c     0".to_owned()]
        );
    }
}
