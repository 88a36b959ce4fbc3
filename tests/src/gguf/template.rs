//! A model file under another chat template.

use anyhow::{Context as _, bail};

use super::{ALIGNMENT, LIST, TEXT, text};

const KEY: &str = "tokenizer.chat_template";

/// The model with this chat template in place of its own.
///
/// # Errors
/// It is no model file, or has no chat template.
pub fn with_template(model: &[u8], template: &str) -> anyhow::Result<Vec<u8>> {
    // After magic and version.
    let mut input = Input { bytes: model, at: 8 };
    let (tensors, entries) = (input.number()?, input.number()?);
    let mut place = None;
    for _ in 0..entries {
        let key = input.take_text()?;
        let kind = input.small()?;
        let start = input.at;
        input.skip(kind)?;
        if key == KEY.as_bytes() {
            place = Some((start, input.at));
        }
    }
    for _ in 0..tensors {
        input.take_text()?;
        let dimensions = input.small()?;
        input.take(u64::from(dimensions) * 8 + 4 + 8)?;
    }
    let (start, end) = place.with_context(|| format!("the model has no {KEY}"))?;
    let part = |from: usize, to: usize| model.get(from..to).unwrap_or_default();
    let mut out = [part(0, start), &text(template), part(end, input.at)].concat();
    // The tensors' data begins on an alignment.
    let alignment = usize::try_from(ALIGNMENT)?;
    out.resize(out.len().next_multiple_of(alignment), 0);
    out.extend_from_slice(part(input.at.next_multiple_of(alignment), model.len()));
    Ok(out)
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: u64) -> anyhow::Result<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(count)?).context("too long")?;
        let bytes = self.bytes.get(self.at..end).context("the file ends early")?;
        self.at = end;
        Ok(bytes)
    }

    fn small(&mut self) -> anyhow::Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into()?))
    }

    fn number(&mut self) -> anyhow::Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into()?))
    }

    fn take_text(&mut self) -> anyhow::Result<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn skip(&mut self, kind: u32) -> anyhow::Result<()> {
        match kind {
            TEXT => drop(self.take_text()?),
            LIST => {
                let (kind, length) = (self.small()?, self.number()?);
                for _ in 0..length {
                    self.skip(kind)?;
                }
            }
            0 | 1 | 7 => drop(self.take(1)?),
            2 | 3 => drop(self.take(2)?),
            4..=6 => drop(self.take(4)?),
            10..=12 => drop(self.take(8)?),
            _ => bail!("metadata of type {kind}"),
        }
        Ok(())
    }
}
