//! Speech into text and back: OpenAI's own SDK as it comes from PyPI over HTTP, any client over the bus.

#![expect(clippy::indexing_slicing, reason = "the helpers of tests fail as the tests do")]

use anyhow::{Context as _, ensure};
use async_nats::jetstream;
use e2e::System;
use e2e::fake_upstream::{FakeUpstream, Options as Upstream};
use e2e::system::{AUDIO, Options, PATIENCE, succeeded};
use e2e::upstream::{Asked, Hang, Script, Trouble};
use e2e::wait;
use e2e::workspace::root;
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use wire::subject::{AUDIO_BUCKET, Speak, Transcribe};
use wire::v1::{self, transcribe_request::Audio};

async fn sdk(url: &str, key: &str, more: &[&str]) -> anyhow::Result<Value> {
    let python = root().join(".tools/venv/bin/python");
    ensure!(python.is_file(), "{} is missing: run `scripts/setup.sh --test`", python.display());
    let mut command = tokio::process::Command::new(python);
    command.arg(root().join("tests/python/audio_sdk.py")).args([&format!("{url}/v1"), key]).args(more);
    let ended =
        tokio::time::timeout(PATIENCE, command.env("NO_PROXY", "127.0.0.1").kill_on_drop(true).output());
    let output = ended.await.context("the SDK does not end")?.context("cannot start python")?;
    serde_json::from_str(succeeded(&output)?.trim()).context("not one JSON object")
}

/// What the SDK has to come to, whoever answers.
fn check(seen: &Value) {
    let text = format!(
        "heard {} word1 word2 word3 word4 word5 word6 word7",
        seen["hash"].as_str().unwrap_or_default()
    );
    for heard in [&seen["plain"]["text"], &seen["verbose"]["text"], &seen["tokens"]["text"], &seen["english"]]
    {
        assert_eq!(*heard, json!(text));
    }
    assert_eq!(seen["text"], json!(format!("{text}\n")));
    let usage = &seen["plain"]["usage"];
    assert_eq!((&usage["type"], usage["seconds"].as_f64()), (&json!("duration"), Some(1.0)));
    let verbose = &seen["verbose"];
    assert_eq!((&verbose["language"], &verbose["duration"]), (&json!("english"), &json!(1.0)));
    assert_eq!(verbose["segments"][0], json!([0, 0.0, 0.364, -0.25]), "{verbose}");
    assert_eq!(verbose["words"].as_array().map(Vec::len), Some(11), "{verbose}");
    assert_eq!(verbose["words"][0], json!(["heard", 0.0, 0.091]));
    let usage = json!({
        "type": "tokens", "input_tokens": 10, "input_token_details": {"text_tokens": 0, "audio_tokens": 10},
        "output_tokens": 11, "total_tokens": 21,
    });
    let streamed = &seen["stream"];
    assert_eq!((&seen["tokens"]["usage"], &streamed["usage"]), (&usage, &usage));
    assert_eq!(seen["tokens"]["logprobs"], json!([-0.5]));
    assert_eq!(streamed["kinds"], json!(["transcript.text.delta", "transcript.text.done"]));
    assert_eq!((&streamed["deltas"], &streamed["text"]), (&json!(text), &json!(text)));
    assert!(streamed["pieces"].as_u64() > Some(1), "{streamed}");

    let speech = &seen["speech"];
    // 18 characters at 200 bytes, and what a WAV begins with
    assert_eq!((&speech["bytes"], &speech["type"]), (&json!(3_604), &json!("audio/wav")));
    assert_eq!(seen["streamed speech"], speech["sha256"]);
    assert_eq!(seen["speech events"]["sha256"], seen["speech of events"]);
    assert_eq!(seen["speech events"]["last"], json!("speech.audio.done"));
    let usage = json!({"input_tokens": 5, "output_tokens": 8, "total_tokens": 13});
    assert_eq!(seen["speech events"]["usage"], usage);
    for [heard, sent] in [[&seen["longer"][0], &seen["longer"][1]], [&seen["long"][0], &seen["long"][1]]] {
        let (heard, sent) = (heard.as_str().unwrap_or_default(), sent.as_str().unwrap_or("?"));
        assert!(heard.starts_with(sent), "{heard:?} is not {sent:?}");
    }
    let errors = &seen["errors"];
    assert_eq!(errors["too large"], json!(["APIStatusError", 413]), "{errors}");
    assert_eq!(errors["format"], json!(["BadRequestError", 400]), "{errors}");
    assert_eq!(errors["speed"], json!(["BadRequestError", 400]), "{errors}");
    assert_eq!(errors["model"], json!(404), "{errors}");
}

#[tokio::test]
async fn the_sdk_judges_the_scripted_provider() -> anyhow::Result<()> {
    let upstream = FakeUpstream::start_with(Upstream {
        key: Some("sk-of-the-judge".to_owned()),
        models: AUDIO.map(str::to_owned).to_vec(),
        ..Upstream::default()
    })
    .await?;
    check(&sdk(&upstream.url(), "sk-of-the-judge", &[]).await?);
    Ok(())
}

#[tokio::test]
async fn audio_goes_in_and_out_and_is_paid_for() -> anyhow::Result<()> {
    let system = System::start(Options { audio: true, backup: true, ..Options::cloud() }).await?;
    the_sdk_hears_and_speaks(&system).await?;
    callers_on_the_bus_do_too(&system).await?;
    so_does_the_command_line(&system).await?;
    speech_that_nobody_wants_is_not_spoken(&system).await?;
    another_provider_speaks_when_the_first_cannot(&system).await?;
    nothing_stays_in_the_store(&system).await
}

async fn the_sdk_hears_and_speaks(system: &System) -> anyhow::Result<()> {
    let seen = sdk(&system.url(), "none", &[]).await?;
    check(&seen);
    // made here: with the provider's own words it would have no times
    let srt = seen["srt"].as_str().unwrap_or_default();
    assert!(srt.starts_with("1\n00:00:00,000 --> 00:00:00,364\nheard "), "{srt}");
    // $0.36 an hour, a second
    assert_eq!(seen["plain"]["extra"]["hybrid"]["cost_usd"], "0.0001", "{seen}");
    // ten tokens of audio at $3 and eleven of text at $5 per million
    assert_eq!(seen["tokens"]["extra"]["hybrid"]["cost_usd"], "0.000085", "{seen}");

    let arrived = system.upstream.requests().await?;
    let asked: Vec<&Asked> = arrived.iter().filter_map(|request| request.asked.as_ref()).collect();
    let Some(Asked::Transcribe(first)) = asked.first() else { anyhow::bail!("{asked:?}") };
    assert_eq!((first.file_name.as_str(), first.media_type.as_str()), ("Gru_.wav", "audio/wav"));
    assert_eq!((first.language.as_deref(), first.prompt.as_deref()), (Some("de"), Some("Hybrid LLM")));
    assert_eq!((first.temperature, first.format.as_str()), (Some(0.2), "verbose_json"));
    let spoken = asked.iter().find_map(|asked| match asked {
        Asked::Speak(asked) => Some(asked),
        _ => None,
    });
    let spoken = spoken.context("nothing was spoken")?;
    assert_eq!((spoken.speed, spoken.voice.as_str()), (Some(1.5), "alloy"));
    let hub = system.hub();
    let rows = hub.rows_until("the speech in the ledger", |rows| {
        rows.iter().any(|row| row.deployment == "mainpc/upstream/tts-1")
    });
    let rows = rows.await?;
    let row = rows.iter().find(|row| row.deployment == "mainpc/upstream/tts-1").context("no row")?;
    // 18 characters at $15 a million
    assert_eq!(row.cost_picodollars, 18 * 15_000_000);
    Ok(())
}

async fn callers_on_the_bus_do_too(system: &System) -> anyhow::Result<()> {
    let caller = system.caller().await?;
    let request = v1::SpeakRequest {
        model: "tts-1".to_owned(),
        input: "one two three".to_owned(),
        voice: "alloy".to_owned(),
        ..Default::default()
    };
    let reply = caller.ask(&Speak, &request).await?;
    assert_eq!(reply.audio().len(), 13 * 200 + 3);
    assert_eq!(reply.end()?.usage.unwrap_or_default().characters, 13);

    // a file that the caller has put into the store itself
    let context = jetstream::new(system.nats.client().await?);
    let store = context.get_object_store(AUDIO_BUCKET).await?;
    let content = vec![7_u8; 600_000];
    store.put("mine.mp3", &mut content.as_slice()).await?;
    let stored = |bytes| v1::TranscribeRequest {
        model: "whisper-1".to_owned(),
        audio: Some(Audio::Stored(v1::StoredAudio {
            name: "mine.mp3".to_owned(),
            bytes,
            ..Default::default()
        })),
        file_name: "mine.mp3".to_owned(),
        ..Default::default()
    };
    let reply = caller.ask(&Transcribe, &stored(600_000)).await?;
    assert!(reply.text().starts_with("heard 600000 B #"), "{}", reply.text());
    // 600,000 bytes last 37.5 s, as the provider says
    assert_eq!(reply.end()?.usage.unwrap_or_default().audio_ms, 38_000);
    let refused = caller.ask(&Transcribe, &stored(5)).await?;
    assert_eq!(refused.error()?.field, "stored.name");
    store.delete("mine.mp3").await?;
    Ok(())
}

async fn so_does_the_command_line(system: &System) -> anyhow::Result<()> {
    let file = system.folder().join("said.wav");
    let path = file.to_str().context("no text")?;
    let spoken = ["speak", "one two three", "--model", "tts-1", "--out", path];
    succeeded(&system.run("hybridctl", &spoken).await?)?;
    assert_eq!(std::fs::metadata(&file)?.len(), 13 * 200 + 4);
    let heard = system.run("hybridctl", &["transcribe", path, "--model", "whisper-1"]).await?;
    assert!(succeeded(&heard)?.starts_with("heard 2604 B #"), "{heard:?}");
    // larger than a message takes at once
    std::fs::write(&file, vec![1; 300_000])?;
    let heard = ["transcribe", path, "--model", "whisper-1", "--format", "verbose", "--json"];
    let heard: Value = serde_json::from_str(succeeded(&system.run("hybridctl", &heard).await?)?.trim())?;
    assert!(heard["text"].as_str().unwrap_or_default().starts_with("heard 300000 B #"), "{heard}");
    assert!(heard["segments"].as_array().is_some_and(|segments| segments.len() > 1), "{heard}");
    let refused = system.run("hybridctl", &["transcribe", path, "--model", "tts-1"]).await?;
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("transcribe"));
    Ok(())
}

async fn speech_that_nobody_wants_is_not_spoken(system: &System) -> anyhow::Result<()> {
    system.upstream.play(&Script { hang: Some(Hang::MidStream), ..Script::default() }).await?;
    let before = system.upstream.stats().await?.aborted;
    assert!(sdk(&system.url(), "none", &["break-off"]).await?.as_u64() > Some(0));
    system.upstream.stats_until("the end of the call", PATIENCE, |stats| stats.aborted > before).await?;
    system.upstream.recover().await
}

async fn another_provider_speaks_when_the_first_cannot(system: &System) -> anyhow::Result<()> {
    system.upstream.play(&Script { error: Some(Trouble::Server), ..Script::default() }).await?;
    let body = json!({"model": "tts-1", "input": "hello", "voice": "alloy", "response_format": "wav"});
    let answer = system.post("audio/speech", &body).await?;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 5 * 200 + 4), "{}", answer.text());
    system.upstream.recover().await?;
    let backup = system.backup.as_ref().context("no backup")?;
    assert!(matches!(
        backup.requests().await?.last().and_then(|last| last.asked.clone()),
        Some(Asked::Speak(_))
    ));
    Ok(())
}

async fn nothing_stays_in_the_store(system: &System) -> anyhow::Result<()> {
    let context = jetstream::new(system.nats.client().await?);
    let store = context.get_object_store(AUDIO_BUCKET).await?;
    wait::until("an empty store", PATIENCE, async || {
        let objects: Vec<_> = store.list().await.ok()?.try_collect().await.ok()?;
        objects.iter().all(|object| object.deleted).then_some(())
    })
    .await
}
