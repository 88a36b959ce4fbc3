//! `hybridctl speak TEXT --out FILE`: the audio in a file, or on stdout.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use domain::inference::SpeechFormat;
use wire::subject;
use wire::v1;

use super::{Asker, Ended, ask, deadline_ms, summary};
use crate::output::Output;
use crate::target::System;

/// More than any model speaks; the contract refuses less with an error of its own.
const STDIN_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What to say; `-` reads it from stdin
    text: String,
    /// File that gets the audio; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// A voice by the model's name for it
    #[arg(short, long, value_name = "NAME", default_value = "alloy")]
    voice: String,
    /// mp3, opus, aac, flac, wav or pcm; without it the file's ending says, else mp3
    #[arg(short, long, value_name = "FORMAT", value_parser = format)]
    format: Option<SpeechFormat>,
    /// 0.25 to 4
    #[arg(long, value_name = "NUMBER")]
    speed: Option<f32>,
    /// How to say it, for models that take that
    #[arg(short, long, value_name = "TEXT")]
    instructions: Option<String>,
    #[command(flatten)]
    pub(crate) asker: Asker,
}

fn format(name: &str) -> Result<SpeechFormat, String> {
    SpeechFormat::from_name(name).ok_or_else(|| "expected mp3, opus, aac, flac, wav or pcm".to_owned())
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let id = uuid::Uuid::now_v7().to_string();
    let by_ending = options.out.extension().and_then(|ending| SpeechFormat::from_name(ending.to_str()?));
    let format = options.format.or(by_ending).unwrap_or_default();
    let request = v1::SpeakRequest {
        request_id: id.clone(),
        model: options.asker.model.clone().unwrap_or_default(),
        agent: options.asker.agent.clone().unwrap_or_default(),
        input: text(&options.text)?,
        voice: options.voice.clone(),
        format: v1::SpeechFormat::from(format).into(),
        speed: options.speed,
        instructions: options.instructions.clone().unwrap_or_default(),
        profile: options.asker.profile(),
        deadline_ms: deadline_ms(system),
        ..v1::SpeakRequest::default()
    };
    let to_stdout = options.out == Path::new("-");
    let (mut audio, mut bytes) = (Vec::new(), 0);
    let mut pieces = |items: Vec<v1::DeltaItem>| {
        for item in items {
            bytes += item.audio.len();
            if to_stdout {
                std::io::stdout().write_all(&item.audio).context("stdout takes no more")?;
            } else {
                audio.extend_from_slice(&item.audio);
            }
        }
        Ok(())
    };
    let agent = options.asker.agent()?;
    let connection = system.connect().await?;
    let request = (id.as_str(), &request);
    let ended = match agent {
        Some(agent) => ask(&connection, system, &subject::AgentSpeak(agent), request, &mut pieces).await,
        None => ask(&connection, system, &subject::Speak, request, &mut pieces).await,
    };
    connection.close().await;
    match ended? {
        Ended::Answered(end) => {
            if to_stdout {
                std::io::stdout().flush().context("stdout takes no more")?;
            } else {
                // all of it or nothing: a file that broke off would play all the same
                std::fs::write(&options.out, &audio)
                    .with_context(|| format!("{} cannot be written", options.out.display()))?;
            }
            summary(output, &end, &format!("{bytes} bytes of {}", format.as_str()));
            Ok(ExitCode::SUCCESS)
        }
        Ended::GivenUp(code) => Ok(ExitCode::from(code)),
    }
}

fn text(given: &str) -> anyhow::Result<String> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    let mut stdin = std::io::stdin().take(STDIN_BYTES_MAX);
    stdin.read_to_string(&mut text).context("the text cannot be read from stdin")?;
    Ok(text)
}
