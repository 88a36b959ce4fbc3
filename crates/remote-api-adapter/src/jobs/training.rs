//! What a training is asked with: options within their ranges, data that is lines of conversations.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use domain::fault::{Code, Fault, Origin};
use serde::Deserialize;
use serde::de::IgnoredAny;
use wire::v1;

use super::{intake::disk, record::Kind};
use crate::{provider::jobs::Options, route::Route};

/// Longest example, bytes: no model reads more.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// The options, checked.
///
/// # Errors
/// One outside its range, by its name; a model whose training has no price, unless that is accepted.
pub(super) fn kind(options: Option<&v1::FineTuneOptions>, route: &Route) -> Result<Kind, Fault> {
    let given = options.cloned().unwrap_or_default();
    let refused = |name: &str, value: String, expected: &str| {
        let field = format!("fine_tune.options.{name}");
        let message = format!("{field} is {value}, expected {expected}");
        Fault::invalid(field, message)
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if given.suffix.len() > 64 || !given.suffix.chars().all(plain) {
        let start: String = given.suffix.chars().take(80).collect();
        return Err(refused("suffix", format!("{start:?}"), "up to 64 letters, digits, `-` or `_`"));
    }
    if let Some(epochs) = given.epochs.filter(|epochs| !(1..=50).contains(epochs)) {
        return Err(refused("epochs", epochs.to_string(), "1 to 50"));
    }
    if let Some(size) = given.batch_size.filter(|size| !(1..=256).contains(size)) {
        return Err(refused("batch_size", size.to_string(), "1 to 256"));
    }
    if let Some(rate) = given.learning_rate_multiplier.filter(|rate| !(*rate > 0.0 && *rate <= 100.0)) {
        return Err(refused("learning_rate_multiplier", rate.to_string(), "above 0 and up to 100"));
    }
    if route.training_price.is_none() && !given.accept_unknown_cost {
        let message = format!(
            "{} has no price for training, expected training_per_million in its price or in the price file, or \
             accept_unknown_cost",
            route.id
        );
        return Err(Fault::new(Code::Unsupported, Origin::Caller, true, message).in_field("model"));
    }
    let options = Options {
        suffix: given.suffix,
        epochs: given.epochs,
        batch_size: given.batch_size,
        learning_rate_multiplier: given.learning_rate_multiplier,
        seed: given.seed,
    };
    Ok(Kind::FineTune { options, accept_unknown_cost: given.accept_unknown_cost })
}

#[derive(Deserialize)]
struct Example {
    messages: Vec<IgnoredAny>,
}

/// Checks that each line is a conversation.
///
/// # Errors
/// The first line that is none, by its number; what is in it is not told.
pub(super) fn check(file: &Path, field: &str) -> Result<(), Fault> {
    let wrong = |number: usize, what: &str| {
        let message = format!(
            "{field} line {number} {what}, expected a JSON object with a conversation under `messages`"
        );
        Fault::invalid(format!("{field}[{}]", number - 1), message)
    };
    let missing = || Fault::invalid(field, format!("{field} is empty, expected lines of conversations"));
    let file = match File::open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
        opened => opened.map_err(|error| disk(&error))?,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let limited = &mut std::io::Read::take(&mut reader, LINE_BYTES_MAX + 1);
        if limited.read_until(b'\n', &mut line).map_err(|error| disk(&error))? == 0 {
            return if number == 1 { Err(missing()) } else { Ok(()) };
        }
        if line.len() as u64 > LINE_BYTES_MAX {
            return Err(wrong(number, "has more than 16 MiB"));
        }
        match serde_json::from_slice::<Example>(&line) {
            Ok(example) if example.messages.is_empty() => return Err(wrong(number, "has no messages")),
            Ok(_) => {}
            Err(_) => return Err(wrong(number, "is none")),
        }
    }
    Ok(())
}
