//! A file as the parts of a submission.

use std::path::Path;

use anyhow::Context as _;
use domain::fault::Fault;
use domain::id::JobId;
use prost::Message as _;
use wire::v1::{self, submit_provider_job_request::Kind};

use super::{Submit, lines};

/// Characters of a file's name that its job is named by.
const STEM_MAX: usize = 30;
/// Most that is sent in a part, bytes: answers come soon, and a bus with a small bound is rare.
const PART_BYTES_MAX: usize = 2 << 20;
/// Kept free for what stands around the data.
const MARGIN: usize = 16 << 10;

/// What is to be submitted.
#[derive(Debug)]
pub(super) struct Parts {
    job_id: String,
    model: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Batch(Vec<v1::BatchItem>),
    FineTune { options: v1::FineTuneOptions, training: Vec<u8>, validation: Vec<u8> },
}

impl Parts {
    /// Reads the files.
    pub(super) fn read(submit: &Submit) -> anyhow::Result<Self> {
        let bytes = file(&submit.file)?;
        let content = if submit.fine_tune {
            let validation = submit.validation.as_deref().map(file).transpose()?.unwrap_or_default();
            let options = v1::FineTuneOptions {
                suffix: submit.suffix.clone().unwrap_or_default(),
                epochs: submit.epochs,
                batch_size: submit.batch_size,
                learning_rate_multiplier: submit.learning_rate,
                seed: submit.seed,
                accept_unknown_cost: submit.accept_unknown_cost,
            };
            Content::FineTune { options, training: bytes.clone(), validation }
        } else {
            Content::Batch(lines::items(&bytes).with_context(|| submit.file.display().to_string())?)
        };
        let job_id = match &submit.id {
            Some(id) => id.clone(),
            None => named(&submit.file, &bytes, &submit.model),
        };
        Ok(Self {
            job_id: JobId::new(job_id).map_err(Fault::from)?.into_string(),
            model: submit.model.clone(),
            content,
        })
    }

    /// The parts, each small enough for a bus that takes `message_max` bytes.
    pub(super) fn requests(self, message_max: usize) -> anyhow::Result<Vec<v1::SubmitProviderJobRequest>> {
        let part_max = PART_BYTES_MAX.min(message_max.saturating_sub(MARGIN)).max(1);
        let kinds = match self.content {
            Content::Batch(items) => batches(items, part_max, message_max.saturating_sub(MARGIN))?,
            Content::FineTune { options, training, validation } => {
                trainings(&options, &training, &validation, part_max)
            }
        };
        let count = kinds.len();
        let request = |(part, kind): (usize, Kind)| v1::SubmitProviderJobRequest {
            job_id: self.job_id.clone(),
            model: self.model.clone(),
            part: u32::try_from(part).unwrap_or(u32::MAX),
            last: part + 1 == count,
            kind: Some(kind),
        };
        Ok(kinds.into_iter().enumerate().map(request).collect())
    }
}

fn batches(items: Vec<v1::BatchItem>, part_max: usize, item_max: usize) -> anyhow::Result<Vec<Kind>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), v1::BatchPart::default(), 0);
    for item in items {
        let size = item.encoded_len() + 8;
        anyhow::ensure!(
            size <= item_max,
            "request {:?} has {size} bytes, expected at most {item_max}",
            item.custom_id
        );
        if bytes + size > part_max && !part.items.is_empty() {
            parts.push(Kind::Batch(std::mem::take(&mut part)));
            bytes = 0;
        }
        bytes += size;
        part.items.push(item);
    }
    parts.push(Kind::Batch(part));
    Ok(parts)
}

fn trainings(
    options: &v1::FineTuneOptions,
    training: &[u8],
    validation: &[u8],
    part_max: usize,
) -> Vec<Kind> {
    let training = training.chunks(part_max).map(|piece| (piece.to_vec(), Vec::new()));
    let validation = validation.chunks(part_max).map(|piece| (Vec::new(), piece.to_vec()));
    let mut parts: Vec<v1::FineTunePart> = training
        .chain(validation)
        .map(|(training_jsonl, validation_jsonl)| v1::FineTunePart {
            options: None,
            training_jsonl,
            validation_jsonl,
        })
        .collect();
    if parts.is_empty() {
        parts.push(v1::FineTunePart::default());
    }
    if let Some(first) = parts.first_mut() {
        first.options = Some(options.clone());
    }
    parts.into_iter().map(Kind::FineTune).collect()
}

fn file(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The same file for the same model is the same job.
fn named(path: &Path, bytes: &[u8], model: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let stem: String = stem.chars().take(STEM_MAX).map(plain).collect();
    // FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/
    let hash = bytes.iter().chain(model.as_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{stem}-{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(content: Content) -> Parts {
        Parts { job_id: "j".to_owned(), model: "m".to_owned(), content }
    }

    #[test]
    fn a_batch_is_cut_between_its_requests_and_only_the_last_part_says_so() {
        let item = |n: usize| v1::BatchItem { custom_id: format!("{n:0100}"), request: None };
        let requests = parts(Content::Batch((0..100).map(item).collect())).requests(MARGIN + 1_000).unwrap();
        assert!(requests.len() > 10);
        let lasts: Vec<bool> = requests.iter().map(|request| request.last).collect();
        assert!(lasts.iter().rev().skip(1).all(|last| !last) && *lasts.last().unwrap());
        let ids: Vec<String> = requests
            .iter()
            .flat_map(|request| match &request.kind {
                Some(Kind::Batch(part)) => part.items.clone(),
                _ => panic!("{request:?}"),
            })
            .map(|item| item.custom_id)
            .collect();
        assert_eq!(ids, (0..100).map(|n| item(n).custom_id).collect::<Vec<_>>());
        assert!(requests.iter().all(|request| request.encoded_len() <= MARGIN + 1_000));
    }

    #[test]
    fn data_to_train_with_keeps_every_byte_and_its_options_come_first() {
        let options = v1::FineTuneOptions { epochs: Some(2), ..Default::default() };
        let content = Content::FineTune { options, training: vec![7; 5_000], validation: vec![9; 100] };
        let requests = parts(content).requests(MARGIN + 1_000).unwrap();
        let parts: Vec<&v1::FineTunePart> = requests
            .iter()
            .map(|request| match &request.kind {
                Some(Kind::FineTune(part)) => part,
                _ => panic!("{request:?}"),
            })
            .collect();
        assert_eq!(parts.iter().map(|part| part.training_jsonl.len()).sum::<usize>(), 5_000);
        assert_eq!(parts.iter().map(|part| part.validation_jsonl.len()).sum::<usize>(), 100);
        assert!(parts[0].options.is_some() && parts[1..].iter().all(|part| part.options.is_none()));
    }

    #[test]
    fn a_request_that_no_message_holds_is_named() {
        let item = v1::BatchItem { custom_id: "x".repeat(5_000), request: None };
        assert!(parts(Content::Batch(vec![item])).requests(MARGIN + 1_000).is_err());
    }

    #[test]
    fn the_same_file_is_the_same_job() {
        let name = |bytes: &[u8]| named(Path::new("/tmp/my requests.jsonl"), bytes, "m");
        assert!(name(b"a").starts_with("my-requests-"));
        assert_eq!(name(b"a"), name(b"a"));
        assert_ne!(name(b"a"), name(b"b"));
        assert!(JobId::new(name(b"a")).is_ok());
    }
}
