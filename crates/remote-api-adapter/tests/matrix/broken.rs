//! Answers that are malformed, and answers that are cut: read, or a typed error; never an end that is none.

use domain::fault::{Fault, Origin};
use e2e::upstream::{Call, Garbage, Say, Script};
use serde_json::json;

use crate::{
    answer::{Answer, Canonical},
    fixture::Fixture,
    question::{ECHO, generate, hello},
    row::Row,
};

/// Bytes between two cuts of a stream, except near its end: there, and in an answer in one body, every byte counts.
const STRIDE: usize = 7;

/// No format says that much in fewer bytes.
const EVENT_MIN: usize = 200;

async fn answer(fixture: &Fixture, row: &Row, stream: bool) -> Result<Answer, (Fault, Answer)> {
    let (_, reply) = fixture.open(row.name, "chat", generate(&hello(), stream)).await;
    Answer::read(reply).await
}

/// What an answer came to, in a line.
fn told(outcome: &Result<Answer, (Fault, Answer)>) -> String {
    match outcome {
        Ok(answer) => format!("{:?}", answer.canonical()),
        Err((fault, answer)) => format!("{fault} ({:?}) after {:?}", fault.origin, answer.text),
    }
}

/// What is wrong with how a provider's malformed answers were read.
pub(crate) async fn garbage(fixture: &Fixture, row: &Row) -> Vec<String> {
    let mut wrong = Vec::new();
    for garbage in Garbage::ALL {
        for stream in [true, false] {
            // an answer in one body has no lines and no pieces
            let in_one = matches!(garbage, Garbage::BrokenJson | Garbage::Html | Garbage::ErrorWith200);
            fixture.play(row, Script { garbage: Some(garbage), ..Script::default() }).await;
            let reads = if stream { (row.reads)(garbage) } else { !in_one };
            let outcome = answer(fixture, row, stream).await;
            let right = match &outcome {
                Ok(answer) => reads && answer.text.replace('é', "") == ECHO,
                // half a stream is the text's beginning, and a fault of theirs
                Err((fault, answer)) => {
                    !reads && ECHO.starts_with(&answer.text) && fault.origin == Origin::Provider
                }
            };
            if !right {
                wrong.push(format!("{}, {garbage:?}, streamed {stream}: {}", row.name, told(&outcome)));
            }
        }
    }
    wrong
}

/// An answer with something of everything.
fn rich() -> Say {
    Say {
        reasoning: "let me think".to_owned(),
        text: Some("I will look.".to_owned()),
        calls: vec![Call { name: "weather".to_owned(), arguments: json!({"city": "Berlin"}) }],
        finish: None,
    }
}

/// What is wrong with how a provider's cut answers were read.
pub(crate) async fn cuts(fixture: &Fixture, row: &Row) -> Vec<String> {
    let mut wrong = Vec::new();
    for (stream, stride) in [(true, STRIDE), (false, 1)] {
        fixture.play(row, Script { say: Some(rich()), ..Script::default() }).await;
        let whole = match answer(fixture, row, stream).await {
            Ok(answer) => answer.canonical(),
            Err((fault, _)) => {
                wrong.push(format!("{}, not cut: {fault}", row.name));
                continue;
            }
        };
        let (mut kept, mut tried) = (0, 1);
        while !cut(fixture, row, stream, kept, &whole, &mut wrong).await {
            kept += stride;
            tried += 1;
        }
        let mut ended = None;
        for near in kept.saturating_sub(stride)..=kept {
            let is_whole = cut(fixture, row, stream, near, &whole, &mut wrong).await;
            tried += 1;
            if is_whole && ended.is_none() {
                ended = Some(near);
            } else if !is_whole && let Some(ended) = ended {
                wrong.push(format!("{}: whole after {ended} bytes, but not after {near}", row.name));
            }
        }
        let whole_from = ended.unwrap_or_default();
        println!("{}, streamed {stream}: cut {tried} times, whole after {whole_from} bytes", row.name);
        if whole_from < EVENT_MIN {
            wrong.push(format!("{}, streamed {stream}: whole after {whole_from} bytes", row.name));
        }
    }
    wrong
}

/// Whether an answer that breaks off after so many bytes counts as whole.
async fn cut(
    fixture: &Fixture,
    row: &Row,
    stream: bool,
    kept: usize,
    whole: &Canonical,
    wrong: &mut Vec<String>,
) -> bool {
    let script = Script { say: Some(rich()), cut_after_bytes: Some(kept), ..Script::default() };
    fixture.play(row, script).await;
    let outcome = answer(fixture, row, stream).await;
    let right = match &outcome {
        // nothing is missing but what no reader needs
        Ok(answer) => answer.canonical() == *whole,
        Err((fault, answer)) => {
            fault.origin == Origin::Provider
                && fault.retryable
                && whole.text.starts_with(&answer.text)
                && whole.reasoning.starts_with(&answer.reasoning)
        }
    };
    if !right {
        wrong.push(format!("{}, streamed {stream}, cut after {kept} bytes: {}", row.name, told(&outcome)));
    }
    outcome.is_ok()
}
