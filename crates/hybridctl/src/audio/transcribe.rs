//! `hybridctl transcribe FILE`: the text on stdout.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bus::audio::INLINE_BYTES_MAX;
use clap::ValueEnum;
use serde_json::json;
use wire::subject;
use wire::v1::{self, transcribe_request::Audio};

use super::{Asker, Ended, ask, deadline_ms, summary};
use crate::output::Output;
use crate::target::{Connection, System};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Srt,
    Vtt,
    /// With `--json`: language, duration, timed segments
    Verbose,
    /// With `--json`: who speaks
    Diarized,
}

impl From<Format> for v1::TranscriptFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Srt => Self::Srt,
            Format::Vtt => Self::Vtt,
            Format::Verbose => Self::Verbose,
            Format::Diarized => Self::Diarized,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// File of audio, up to 25 MiB; its ending tells the format
    file: PathBuf,
    /// Shape of the text
    #[arg(short, long, value_enum, default_value = "text")]
    format: Format,
    /// Language that is spoken, as in `de`; without it the model detects it
    #[arg(short, long, value_name = "TAG")]
    language: Option<String>,
    /// Style and spelling to go on with
    #[arg(short, long, value_name = "TEXT")]
    prompt: Option<String>,
    /// English text, whatever is spoken
    #[arg(long)]
    english: bool,
    /// For programs: text, times and cost as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) asker: Asker,
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let content = tokio::fs::read(&options.file)
        .await
        .with_context(|| format!("{} cannot be read", options.file.display()))?;
    let id = uuid::Uuid::now_v7().to_string();
    let agent = options.asker.agent()?;
    let connection = system.connect().await?;
    let is_large = content.len() > INLINE_BYTES_MAX;
    let audio = if is_large {
        connection.bus.put_audio(&id, &content).await?;
        let machine = connection.bus.machine().to_string();
        Audio::Stored(v1::StoredAudio { name: id.clone(), bytes: content.len() as u64, machine })
    } else {
        Audio::Content(content)
    };
    let name = options.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_graphic() && !matches!(c, '"' | '/' | '\\') { c } else { '_' };
    let request = v1::TranscribeRequest {
        request_id: id.clone(),
        model: options.asker.model.clone().unwrap_or_default(),
        agent: options.asker.agent.clone().unwrap_or_default(),
        audio: Some(audio),
        file_name: name.chars().map(plain).collect(),
        language: options.language.clone().unwrap_or_default(),
        prompt: options.prompt.clone().unwrap_or_default(),
        format: v1::TranscriptFormat::from(options.format).into(),
        to_english: options.english,
        profile: options.asker.profile(),
        deadline_ms: deadline_ms(system),
        ..v1::TranscribeRequest::default()
    };
    let asked = listen(&connection, system, agent, &request).await;
    if is_large {
        connection.bus.delete_audio(&id).await;
    }
    connection.close().await;
    let (ended, text) = asked?;
    match ended {
        Ended::Answered(end) => {
            show(options, output, &text, &end)?;
            Ok(ExitCode::SUCCESS)
        }
        Ended::GivenUp(code) => Ok(ExitCode::from(code)),
    }
}

async fn listen(
    connection: &Connection,
    system: &System,
    agent: Option<domain::id::AgentName>,
    request: &v1::TranscribeRequest,
) -> anyhow::Result<(Ended, String)> {
    let mut text = String::new();
    let mut pieces = |items: Vec<v1::DeltaItem>| {
        items.iter().for_each(|item| text.push_str(&item.text));
        Ok(())
    };
    let id = request.request_id.as_str();
    let ended = match agent {
        Some(agent) => {
            let subject = subject::AgentTranscribe(agent);
            ask(connection, system, &subject, (id, request), &mut pieces).await?
        }
        None => ask(connection, system, &subject::Transcribe, (id, request), &mut pieces).await?,
    };
    Ok((ended, text))
}

fn show(options: &Options, output: &Output, text: &str, end: &v1::End) -> anyhow::Result<()> {
    if !options.json {
        output.line(text.trim_end_matches('\n'));
        let usage = end.usage.unwrap_or_default();
        summary(output, end, &format!("{}.{} s of audio", usage.audio_ms / 1_000, usage.audio_ms / 100 % 10));
        return Ok(());
    }
    let transcript = end.transcript.clone().unwrap_or_default();
    let segments = transcript.segments.iter().map(|part| {
        json!({ "start": part.start_seconds, "end": part.end_seconds, "text": part.text, "speaker": part.speaker })
    });
    output.json(&json!({
        "text": text,
        "language": transcript.language,
        "duration_seconds": transcript.duration_seconds,
        "segments": segments.collect::<Vec<_>>(),
        "deployment": end.deployment,
        "usage": crate::view::TokensView::from(end.usage.unwrap_or_default()),
        "cost_picodollars": end.request_cost_picodollars,
    }))
}
