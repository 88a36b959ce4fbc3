//! The questions, put to one provider: what it was asked, what came back, and what that cost.

use std::{fmt::Debug, time::Duration};

use domain::fault::{Code, Fault};
use e2e::{
    upstream::{
        Asked, AskedResult, Call as Calling, Chat, Hang, RetryAfter, Say, Script, Speaker, Trouble, Turn,
    },
    wait,
};
use serde_json::{Value, json};
use wire::v1::{self, FinishReason, execute_request::Method};

use crate::{
    answer::{Answer, Canonical},
    fixture::{Fixture, PATIENCE, TROUBLES},
    outcome::Outcome,
    question::{self, ECHO, Question, hello, hello_as_asked},
    row::Row,
};

/// How long the far side may have to notice a cancel.
const CANCEL_MAX: Duration = Duration::from_secs(1);
const WAIT_S: u64 = 7;
const URL: &str = "https://example.com/cat.png";
const LOOKED: &str =
    "echo: What is this? [image/png 70 B #bc64d22603671c51] word1 word2 word3 word4 word5 word6 word7";

type Checked = Result<(), Outcome>;

/// Asks one question.
pub(crate) async fn ask(fixture: &Fixture, row: &Row, question: Question) -> Outcome {
    let on = On { fixture, row };
    let checked = match question {
        Question::Generate => on.generate(false).await,
        Question::Stream => on.generate(true).await,
        Question::Tools => on.tools().await,
        Question::ParallelTools => on.parallel_tools().await,
        Question::JsonSchema => on.json_schema().await,
        Question::Vision => on.vision().await,
        Question::Embed => on.embed().await,
        Question::Translate => on.translate().await,
        Question::Transcribe => on.transcribe().await,
        Question::Speak => on.speak().await,
        Question::CachedUsage => on.cached_usage().await,
        Question::Reasoning => on.reasoning().await,
        Question::Errors => on.errors().await,
        Question::Cancel => on.cancel().await,
    };
    checked.err().unwrap_or(Outcome::Pass)
}

fn same<T: PartialEq + Debug>(what: &str, got: &T, expected: &T) -> Checked {
    if got == expected {
        return Ok(());
    }
    Err(Outcome::Failed(format!("{what} is {got:?}, expected {expected:?}")))
}

fn must(what: &str, holds: bool) -> Checked {
    if holds { Ok(()) } else { Err(Outcome::Failed(format!("not so: {what}"))) }
}

/// Takes away what formats need not have in common: ids, the places of reasoning, who asks for usage.
fn in_common(mut chat: Chat) -> Chat {
    chat.model.clear();
    chat.stream = false;
    chat.include_usage = false;
    chat.tool_choice = chat.tool_choice.filter(|choice| choice != "auto");
    for turn in &mut chat.turns {
        turn.reasoning.clear();
        turn.signatures.clear();
        turn.calls.iter_mut().for_each(|call| call.id.clear());
        turn.results.iter_mut().for_each(|result| result.id.clear());
    }
    chat
}

fn calling(city: &str) -> Calling {
    Calling { name: "weather".to_owned(), arguments: json!({"city": city}) }
}

fn called(city: &str) -> (String, Value) {
    ("weather".to_owned(), json!({"city": city}))
}

fn plain() -> Canonical {
    Canonical {
        text: ECHO.to_owned(),
        reasoning: String::new(),
        calls: Vec::new(),
        finish: FinishReason::Stop,
        input: 5,
        output: 8,
    }
}

/// A row's far side and the way to it.
struct On<'a> {
    fixture: &'a Fixture,
    row: &'a Row,
}

impl On<'_> {
    async fn play(&self, script: Script) {
        self.fixture.play(self.row, script).await;
    }

    async fn say(&self, say: Say) {
        self.play(Script { say: Some(say), ..Script::default() }).await;
    }

    async fn answer(&self, model: &str, method: Method) -> Result<Answer, Outcome> {
        let (_, stream) = self.fixture.open(self.row.name, model, method).await;
        Answer::read(stream).await.map_err(|(fault, _)| Outcome::of_fault(&fault))
    }

    /// The last conversation that arrived.
    async fn asked(&self) -> Result<Chat, Outcome> {
        match self.fixture.asked(self.row).await.pop() {
            Some(Asked::Chat(chat)) => Ok(*chat),
            other => Err(Outcome::Failed(format!("the far side was asked {other:?}"))),
        }
    }

    /// Asks, whole and streamed; the last answer comes back.
    async fn both(&self, request: &v1::GenerateRequest, expected: &Canonical) -> Result<Answer, Outcome> {
        let whole = self.answer("chat", question::generate(request, false)).await?;
        same("the whole answer", &whole.canonical(), expected)?;
        let streamed = self.answer("chat", question::generate(request, true)).await?;
        same("the streamed answer", &streamed.canonical(), expected)?;
        Ok(streamed)
    }

    async fn generate(&self, stream: bool) -> Checked {
        // what comes at once may travel with the end
        self.play(Script { chunk_delay_ms: 10, ..Script::default() }).await;
        self.plain(&hello(), &hello_as_asked(), stream).await?;
        let mut expected = hello_as_asked();
        expected.sampling.stop = vec![question::STOP.to_owned()];
        match self.plain(&question::with_stop(hello()), &expected, stream).await {
            Err(Outcome::Refused(reason)) => Err(Outcome::PassBut(reason)),
            other => other,
        }
    }

    async fn plain(&self, request: &v1::GenerateRequest, expected: &Chat, stream: bool) -> Checked {
        let answer = self.answer("chat", question::generate(request, stream)).await?;
        same("the answer", &answer.canonical(), &plain())?;
        let usage = answer.usage();
        must("the usage is the provider's", !usage.estimated)?;
        // a dollar for a million tokens in, two for a million out
        same("the cost", &answer.end.cost_picodollars, &(5 * 1_000_000 + 8 * 2_000_000))?;
        must("the provider's model is named", !answer.end.model.is_empty())?;
        must("a stream comes in pieces, and nothing else does", (answer.frames > 1) == stream)?;
        let asked = self.asked().await?;
        same("the model", &asked.model.as_str(), &self.row.chat)?;
        same("stream", &asked.stream, &stream)?;
        same("what was asked", &in_common(asked), expected)
    }

    async fn tools(&self) -> Checked {
        self.say(Say { calls: vec![calling("Berlin")], ..Say::default() }).await;
        let expected = Canonical {
            text: String::new(),
            calls: vec![called("Berlin")],
            finish: FinishReason::ToolCalls,
            output: 3,
            ..plain()
        };
        let answer = self.both(&question::with_tools(hello()), &expected).await?;
        must("the call has an id", answer.calls.values().all(|call| !call.id.is_empty()))?;
        let asked = in_common(self.asked().await?);
        same("what was asked", &asked, &Chat { tools: question::tools_as_asked(), ..hello_as_asked() })
    }

    /// Two calls at once, and the conversation that goes on with their results.
    async fn parallel_tools(&self) -> Checked {
        self.say(Say {
            reasoning: "think first".to_owned(),
            text: Some("I will look.".to_owned()),
            calls: vec![calling("Berlin"), calling("Paris")],
            ..Say::default()
        })
        .await;
        let expected = Canonical {
            text: "I will look.".to_owned(),
            reasoning: "think first".to_owned(),
            calls: vec![called("Berlin"), called("Paris")],
            finish: FinishReason::ToolCalls,
            output: 11,
            ..plain()
        };
        let request = question::with_tools(hello());
        for stream in [false, true] {
            let answer = self.answer("chat", question::generate(&request, stream)).await?;
            same("the answer", &answer.canonical(), &expected)?;
            let ids: Vec<&str> = answer.calls.values().map(|call| call.id.as_str()).collect();
            must(
                "the calls have ids of their own",
                ids.len() == 2 && ids[0] != ids[1] && !ids.contains(&""),
            )?;
            self.results(&request, &answer).await?;
        }
        Ok(())
    }

    async fn results(&self, request: &v1::GenerateRequest, answer: &Answer) -> Checked {
        let mut request = request.clone();
        request.messages.push(answer.as_message());
        for (call, words) in answer.calls.values().zip(["sunny", "rainy"]) {
            let mut result = question::message(v1::Role::Tool, words);
            result.tool_call_id.clone_from(&call.id);
            request.messages.push(result);
        }
        let again = self.answer("chat", question::generate(&request, false)).await?;
        must("the model goes on", !again.calls.is_empty())?;
        let asked = self.asked().await?;
        let signed = asked.turns.iter().any(|turn| !turn.signatures.is_empty());
        same("whether the reasoning is proved", &signed, &self.row.signs)?;
        let mut expected = Chat { tools: question::tools_as_asked(), ..hello_as_asked() };
        expected.turns.push(Turn {
            speaker: Speaker::Assistant,
            text: "I will look.".to_owned(),
            calls: [called("Berlin"), called("Paris")]
                .map(|(name, arguments)| e2e::upstream::AskedCall { id: String::new(), name, arguments })
                .into(),
            ..Turn::default()
        });
        expected.turns.push(Turn {
            results: ["sunny", "rainy"]
                .map(|text| AskedResult { id: String::new(), text: text.to_owned() })
                .into(),
            ..Turn::default()
        });
        same("the results that arrived", &in_common(asked), &expected)
    }

    async fn json_schema(&self) -> Checked {
        let text = "{\"answer\": 4}";
        self.say(Say { text: Some(text.to_owned()), ..Say::default() }).await;
        let expected = Canonical { text: text.to_owned(), output: 2, ..plain() };
        self.both(&question::with_schema(hello()), &expected).await?;
        let asked = in_common(self.asked().await?);
        let schema = Some(question::schema());
        same("what was asked", &asked, &Chat { json: true, schema, ..hello_as_asked() })
    }

    /// Pictures as bytes, and by address where the provider takes that.
    async fn vision(&self) -> Checked {
        self.play(Script::default()).await;
        let data = format!("data:image/png;base64,{}", question::PICTURE);
        let expected = Canonical { text: LOOKED.to_owned(), input: 4, ..plain() };
        self.both(&question::look(&data), &expected).await?;
        match self.answer("chat", question::generate(&question::look(URL), false)).await {
            Ok(answer) => must("the address arrived", answer.text.contains(URL)),
            Err(Outcome::Refused(reason)) => Err(Outcome::PassBut(format!("pictures by address: {reason}"))),
            Err(other) => Err(other),
        }
    }

    async fn embed(&self) -> Checked {
        self.play(Script::default()).await;
        let answer = self.answer("embed", question::embed()).await?;
        let vectors = answer.end.embeddings.clone().unwrap_or_default().embeddings;
        same("the number of vectors", &vectors.len(), &2)?;
        for (vector, first) in vectors.iter().zip([0.221_396_73, -0.298_140_85]) {
            let near = vector.values.first().is_some_and(|value: &f32| (value - first).abs() < 1e-6);
            must(&format!("{vector:?} begins with {first}"), near && vector.values.len() == 8)?;
        }
        must("tokens are counted", answer.usage().input > 0)?;
        let texts = self.fixture.asked(self.row).await.into_iter().filter_map(|asked| match asked {
            Asked::Embed(embed) => Some(embed.texts),
            _ => None,
        });
        let mut texts: Vec<Vec<u8>> = texts.flatten().collect();
        texts.sort();
        same("the texts", &texts, &vec![b"one".to_vec(), b"twenty".to_vec()])
    }

    async fn translate(&self) -> Checked {
        self.play(Script::default()).await;
        let model = self.row.translation.map_or("chat", |_| "translate");
        let answer = self.answer(model, question::translate()).await?;
        match self.fixture.asked(self.row).await.pop() {
            Some(Asked::Chat(chat)) => {
                let said = chat.turns.iter().any(|turn| turn.text.contains("Guten Tag"));
                must("the text arrived", said && answer.text.starts_with("echo: "))
            }
            Some(Asked::Translate(asked)) => {
                let languages = (asked.source.as_str(), asked.target.as_str());
                same("the languages", &languages, &("deu_Latn", "eng_Latn"))?;
                same("the answer", &answer.text.as_str(), &"[deu_Latn eng_Latn] Guten Tag")
            }
            other => Err(Outcome::Failed(format!("the far side was asked {other:?}"))),
        }
    }

    async fn transcribe(&self) -> Checked {
        self.play(Script::default()).await;
        let answer = self.answer("hear", question::transcribe()).await?;
        must("all of the audio arrived", answer.text.starts_with("heard 16044 B #"))?;
        let transcript = answer.end.transcript.clone().unwrap_or_default();
        let words = transcript.words.len();
        same("what is timed", &(words, transcript.duration_seconds), &(answer.text.split(' ').count(), 1.0))?;
        same("what was listened to", &answer.usage().audio_ms, &1_000)?;
        // $0.36 an hour
        same("the cost", &answer.end.cost_picodollars, &100_000_000)?;
        match self.fixture.asked(self.row).await.pop() {
            Some(Asked::Transcribe(asked)) => {
                let names = (asked.model.as_str(), asked.file_name.as_str(), asked.media_type.as_str());
                same("the file", &names, &(self.row.hearing, "a.wav", "audio/wav"))?;
                let hints = (asked.language.as_deref(), asked.prompt.as_deref(), asked.temperature);
                same("what is known of it", &hints, &(Some("de"), Some("Hybrid LLM"), Some(0.5)))
            }
            other => Err(Outcome::Failed(format!("the far side was asked {other:?}"))),
        }
    }

    async fn speak(&self) -> Checked {
        self.play(Script::default()).await;
        let answer = self.answer("speak", question::speak()).await?;
        same("the audio", &(answer.audio.len(), answer.audio.starts_with(b"RIFF")), &(1_004, true))?;
        same("the characters", &answer.usage().characters, &5)?;
        // $15 for a million characters
        same("the cost", &answer.end.cost_picodollars, &(5 * 15_000_000))?;
        match self.fixture.asked(self.row).await.pop() {
            Some(Asked::Speak(asked)) => {
                let words = (asked.model.as_str(), asked.input.as_str(), asked.voice.as_str());
                same("what was asked", &words, &(self.row.speaking, "hello", "alloy"))
            }
            other => Err(Outcome::Failed(format!("the far side was asked {other:?}"))),
        }
    }

    async fn cached_usage(&self) -> Checked {
        self.play(Script { cached_tokens: 2, cache_write_tokens: 1, ..Script::default() }).await;
        let answer = self.both(&hello(), &plain()).await?;
        match answer.usage().cached_input {
            2 => Ok(()),
            0 => Err(Outcome::NotOffered("tokens from a cache are not told".to_owned())),
            other => Err(Outcome::Failed(format!("{other} tokens from the cache, expected 2"))),
        }
    }

    async fn reasoning(&self) -> Checked {
        self.say(Say {
            reasoning: "let me think".to_owned(),
            text: Some("it is four".to_owned()),
            ..Say::default()
        })
        .await;
        let (text, reasoning) = ("it is four".to_owned(), "let me think".to_owned());
        let answer = self.both(&hello(), &Canonical { text, reasoning, output: 6, ..plain() }).await?;
        match answer.usage().reasoning {
            3 => Ok(()),
            0 => Err(Outcome::PassBut("tokens of the reasoning are not told apart".to_owned())),
            other => Err(Outcome::Failed(format!("{other} tokens of reasoning, expected 3"))),
        }
    }

    async fn errors(&self) -> Checked {
        for (number, trouble) in TROUBLES.into_iter().enumerate() {
            let retry_after = (trouble == Trouble::RateLimited).then_some(RetryAfter::Seconds(WAIT_S));
            self.play(Script { error: Some(trouble), retry_after, ..Script::default() }).await;
            let provider = format!("{}-{number}", self.row.name);
            let method = question::generate(&hello(), number % 2 == 1);
            let (_, stream) = self.fixture.open(&provider, "chat", method).await;
            let Err((fault, _)) = Answer::read(stream).await else {
                return Err(Outcome::Failed(format!("{trouble:?} is no error")));
            };
            self.meant(trouble, &fault)?;
        }
        Ok(())
    }

    fn meant(&self, trouble: Trouble, fault: &Fault) -> Checked {
        let (code, retryable) = match trouble {
            Trouble::Invalid => (Code::InvalidArgument, false),
            Trouble::ContextLength => (Code::ContextLengthExceeded, false),
            Trouble::WrongKey | Trouble::OutOfCredit => (Code::UpstreamAuth, true),
            Trouble::NotFound => (Code::NotFound, true),
            Trouble::RateLimited => (Code::RateLimited, true),
            _ => (Code::Upstream, true),
        };
        same(
            &format!("{trouble:?}: {fault:?}: what it means"),
            &(fault.code, fault.retryable),
            &(code, retryable),
        )?;
        let told = trouble == Trouble::RateLimited && self.row.tells_retry_after;
        let wait = told.then_some(Duration::from_secs(WAIT_S));
        if trouble == Trouble::RateLimited {
            same("the wait", &fault.retry_after, &wait)?;
        }
        must(
            "the fault names the provider's error",
            !fault.provider_code.is_empty() && !fault.message.is_empty(),
        )
    }

    /// In the middle of a stream, and while nothing has come yet.
    async fn cancel(&self) -> Checked {
        for (hang, stream) in
            [(Hang::MidStream, true), (Hang::BeforeHeaders, true), (Hang::BeforeHeaders, false)]
        {
            self.play(Script { hang: Some(hang), ..Script::default() }).await;
            let before = self.fixture.stats(self.row).await;
            let method = question::generate(&hello(), stream);
            let (id, reply) = self.fixture.open(self.row.name, "chat", method).await;
            let arrived = wait::until("the call", PATIENCE, async || {
                (self.fixture.stats(self.row).await.requests > before.requests).then_some(())
            });
            arrived.await.map_err(|error| Outcome::Failed(format!("{error:#}")))?;
            self.fixture.cancel(&id).await;
            let gone = wait::until("the call's end", CANCEL_MAX, async || {
                (self.fixture.stats(self.row).await.aborted > before.aborted).then_some(())
            });
            gone.await.map_err(|error| Outcome::Failed(format!("{hang:?}, streamed {stream}: {error:#}")))?;
            let ended = Answer::read(reply).await.map_err(|(fault, _)| Outcome::of_fault(&fault))?;
            same("the end", &ended.end.finish_reason(), &FinishReason::Cancelled)?;
            must("what was used is estimated", ended.usage().estimated)?;
        }
        Ok(())
    }
}
