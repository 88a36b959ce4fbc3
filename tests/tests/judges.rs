//! The providers' own SDKs, as they come from PyPI, are the judges of the scripted provider: what the adapter is tested
//! against is what those libraries understand, and refuse.
//!
//! Every SDK is asked the same questions (`tests/python/judges`). Since one canonical answer is behind all formats, every SDK
//! must come to the same one; what they call an end or an error is theirs.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "the helpers of tests fail as the tests do")]

use anyhow::{Context as _, ensure};
use e2e::fake_upstream::Options;
use e2e::system::{PATIENCE, succeeded};
use e2e::workspace::root;
use e2e::{FakeUpstream, JobUpstream, port, service_account};
use serde_json::{Value, json};

const KEY: &str = "key-of-the-judges";
const TEXT: &str = "echo: hello there word1 word2 word3 word4 word5 word6 word7";
/// The hash is that of the picture's bytes: it has arrived whole.
const PICTURE: &str =
    "echo: What is this? [image/png 70 B #bc64d22603671c51] word1 word2 word3 word4 word5 word6 word7";
const MODELS: [&str; 11] = [
    "gpt-4o-mini",
    "text-embedding-3-small",
    "claude-sonnet-5",
    "gemini-2.5-flash",
    "gemini-embedding-001",
    "text-embedding-005",
    "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "amazon.titan-embed-text-v2:0",
    "cohere.embed-v4:0",
    "llama3.2",
    "nomic-embed-text",
];
const NLLB: &str = "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/nllb-200";

/// What an SDK says when it is asked which models there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Models {
    /// All of them.
    Listed,
    /// It has no such question here.
    Unasked,
    /// In their place: what the translator says.
    Translated,
}

/// What one SDK calls things.
struct Judge {
    sdk: &'static str,
    /// The ends: of its own accord, at the bound, with calls of tools.
    ends: [&'static str; 3],
    /// Whether it shows tokens from the cache, and those of the reasoning.
    shows: (bool, bool),
    /// Exception and code of: a wrong key, a rate limit, a bad request, a broken and an overloaded server, a prompt that is too
    /// long, an empty account, an unknown model.
    errors: [(&'static str, Value); 8],
    /// How it sees `Retry-After: 7`.
    retry_after: Option<&'static str>,
    /// The exception for an error in a stream, for a stream without its last word, and for one that breaks off.
    broken: [Option<&'static str>; 3],
    /// What it gets in place of vectors, where it has none.
    no_vectors: Option<Value>,
    /// What is beside the models: nothing, or a translation.
    models: Models,
    /// Correct streams, and none of its concern, that it does not read.
    misreads: &'static [&'static str],
}

async fn seen(sdk: &str) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let account = folder.path().join("service-account.json");
    let port = port::free()?;
    service_account::write(&account, &format!("http://127.0.0.1:{port}/vertex/token"))?;
    let models = MODELS.iter().chain([&NLLB]).map(|model| (*model).to_owned()).collect();
    let upstream = FakeUpstream::start_with(Options {
        key: Some(KEY.to_owned()),
        service_account: Some(account.clone()),
        models,
        port,
        ..Options::default()
    })
    .await?;
    let python = root().join(".tools/venv/bin/python");
    ensure!(python.is_file(), "{} is missing: run `scripts/setup.sh --test`", python.display());
    let mut command = tokio::process::Command::new(python);
    command.arg(root().join("tests/python/judges")).args([sdk, &upstream.url(), KEY]);
    command.args((sdk == "vertex").then_some(account));
    // nothing of the machine's own accounts and proxies has a say
    command.env("NO_PROXY", "127.0.0.1").kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output =
        ended.with_context(|| format!("the judge {sdk} does not end"))?.context("cannot start python")?;
    serde_json::from_str(succeeded(&output)?.trim()).context("not one JSON object")
}

impl Judge {
    fn usage(&self, input: u64, output: u64, cached: u64, reasoning: u64) -> Value {
        let (shows_cached, shows_reasoning) = self.shows;
        json!({
            "input": input,
            "output": output,
            "cached": shows_cached.then_some(cached),
            "reasoning": shows_reasoning.then_some(reasoning),
        })
    }

    fn answer(&self, text: &str, usage: Value) -> Value {
        json!({"text": text, "reasoning": "", "calls": [], "finish": self.ends[0], "usage": usage})
    }

    async fn judges(&self) -> anyhow::Result<()> {
        let seen = seen(self.sdk).await?;
        self.answers(&seen);
        self.errors(&seen);
        self.streams(&seen);
        Ok(())
    }

    fn both(&self, seen: &Value, question: &str, expected: &Value) {
        for form in ["whole", "stream"] {
            assert_eq!(&seen[question][form], expected, "{}: {question}, {form}", self.sdk);
        }
    }

    fn answers(&self, seen: &Value) {
        let plain = self.answer(TEXT, self.usage(5, 8, 0, 0));
        self.both(seen, "generate", &plain);
        let mut cut = self.answer("echo: hello there word1", self.usage(5, 2, 0, 0));
        cut["finish"] = self.ends[1].into();
        self.both(seen, "length", &cut);
        self.both(seen, "cached", &self.answer(TEXT, self.usage(5, 8, if self.shows.0 { 2 } else { 0 }, 0)));
        let mut thought = self.answer("it is four", self.usage(5, 6, 0, 3));
        thought["reasoning"] = "let me think".into();
        self.both(seen, "reasoning", &thought);
        let berlin = json!({"name": "weather", "arguments": {"city": "Berlin"}});
        let paris = json!({"name": "weather", "arguments": {"city": "Paris"}});
        let mut called = self.answer("", self.usage(5, 3, 0, 0));
        called["finish"] = self.ends[2].into();
        called["calls"] = json!([berlin]);
        self.both(seen, "tools", &called);
        let mut called = self.answer("I will look.", self.usage(5, 9, 0, 0));
        called["finish"] = self.ends[2].into();
        called["calls"] = json!([berlin, paris]);
        self.both(seen, "parallel tools", &called);
        self.both(seen, "schema", &self.answer("{\"answer\": 4}", self.usage(5, 2, 0, 0)));
        self.both(seen, "vision", &self.answer(PICTURE, self.usage(4, 8, 0, 0)));
        // two results of five bytes each are two tokens and a half more
        assert_eq!(seen["tool results"], self.answer(TEXT, self.usage(8, 8, 0, 0)), "{}", self.sdk);
        self.embeddings(&seen["embed"]);
        let models = &seen["models"];
        match self.models {
            Models::Listed => {
                let all: Vec<&Value> = models.as_array().into_iter().flatten().collect();
                assert!(
                    MODELS.iter().all(|model| all.iter().any(|id| *id == model)),
                    "{}: {models}",
                    self.sdk
                );
            }
            Models::Unasked => assert_eq!(models, &Value::Null, "{}", self.sdk),
            Models::Translated => {
                assert_eq!(models[0]["translation_text"], "[deu_Latn eng_Latn] Guten Tag", "{}", self.sdk);
            }
        }
    }

    fn embeddings(&self, vectors: &Value) {
        if let Some(expected) = &self.no_vectors {
            assert_eq!(vectors, expected, "{}", self.sdk);
            return;
        }
        let vectors: Vec<Vec<f64>> = serde_json::from_value(vectors.clone())
            .unwrap_or_else(|error| panic!("{}: {error} in {vectors}", self.sdk));
        assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8], "{}", self.sdk);
        for (vector, first) in vectors.iter().zip([0.221_396_73, -0.298_140_85]) {
            assert!((vector[0] - first).abs() < 1e-6, "{}: {vector:?}", self.sdk);
            let length: f64 = vector.iter().map(|value| value * value).sum();
            assert!((length - 1.0).abs() < 1e-5, "{}: {vector:?}", self.sdk);
        }
    }

    fn errors(&self, seen: &Value) {
        let names = [
            "wrong key",
            "rate_limited",
            "invalid",
            "server",
            "overloaded",
            "context_length",
            "out_of_credit",
            "unknown model",
        ];
        for (name, (error, code)) in names.into_iter().zip(&self.errors) {
            let retry_after = (name == "rate_limited").then_some(self.retry_after).flatten();
            let expected = json!({"error": error, "code": code, "retry_after": retry_after});
            let told = &seen["errors"][name];
            let told =
                if told.get("whole").is_some() { vec![&told["whole"], &told["stream"]] } else { vec![told] };
            assert!(
                told.iter().all(|told| **told == expected),
                "{}: {name}: {told:?}, not {expected}",
                self.sdk
            );
        }
    }

    fn streams(&self, seen: &Value) {
        let plain = self.answer(TEXT, self.usage(5, 8, 0, 0));
        for (name, error) in ["error_with200", "no_done", "cut"].into_iter().zip(self.broken) {
            match error {
                Some(error) => assert_eq!(seen[name]["error"], error, "{}: {name}", self.sdk),
                None => assert_eq!(seen[name], plain, "{}: {name}", self.sdk),
            }
        }
        for name in ["crlf", "comments", "no_final_newline", "byte_by_byte", "damaged_frame"] {
            let reads = !self.misreads.contains(&name);
            assert_eq!(seen[name] == plain, reads, "{}: {name}: {}", self.sdk, seen[name]);
        }
    }
}

/// What OpenAI's SDK makes of the errors; those of its relatives have the same names.
fn openai_errors(out_of_credit: (&'static str, u16)) -> [(&'static str, Value); 8] {
    [
        ("AuthenticationError", 401.into()),
        ("RateLimitError", 429.into()),
        ("BadRequestError", 400.into()),
        ("InternalServerError", 500.into()),
        ("InternalServerError", 503.into()),
        ("BadRequestError", 400.into()),
        (out_of_credit.0, out_of_credit.1.into()),
        ("NotFoundError", 404.into()),
    ]
}

fn openai(sdk: &'static str) -> Judge {
    Judge {
        sdk,
        ends: ["stop", "length", "tool_calls"],
        shows: (true, true),
        errors: openai_errors(("RateLimitError", 429)),
        retry_after: Some("7"),
        broken: [Some("APIError"), None, Some("APIConnectionError")],
        no_vectors: None,
        models: Models::Listed,
        misreads: &[],
    }
}

#[tokio::test]
async fn openais_sdk_understands_the_chat_format() -> anyhow::Result<()> {
    openai("openai").judges().await
}

#[tokio::test]
async fn openais_sdk_understands_the_responses_format() -> anyhow::Result<()> {
    let judge = Judge {
        ends: ["completed", "max_output_tokens", "completed"],
        broken: [Some("EndedEarly"), Some("EndedEarly"), Some("APIConnectionError")],
        // without its blank line an event is none, and the last one carries the answer
        misreads: &["no_final_newline"],
        ..openai("responses")
    };
    judge.judges().await
}

#[tokio::test]
async fn openais_sdk_understands_azures_addresses() -> anyhow::Result<()> {
    openai("azure").judges().await
}

#[tokio::test]
async fn groqs_sdk_understands_the_format() -> anyhow::Result<()> {
    let judge = Judge {
        broken: [Some("APIError"), None, Some("RemoteProtocolError")],
        no_vectors: Some(json!({"error": "NotFoundError", "code": 404, "retry_after": null})),
        ..openai("groq")
    };
    judge.judges().await
}

#[tokio::test]
async fn anthropics_sdk_understands_the_format() -> anyhow::Result<()> {
    let mut errors = openai_errors(("BadRequestError", 400));
    errors[4] = ("OverloadedError", 529.into());
    let judge = Judge {
        ends: ["end_turn", "max_tokens", "tool_use"],
        errors,
        broken: [Some("APIStatusError"), None, Some("RemoteProtocolError")],
        no_vectors: Some(Value::Null),
        ..openai("anthropic")
    };
    judge.judges().await
}

fn google(sdk: &'static str, wrong_key: (&'static str, Value)) -> Judge {
    let client = |code: u16| ("ClientError", code.into());
    let server = |code: u16| ("ServerError", code.into());
    Judge {
        sdk,
        ends: ["STOP", "MAX_TOKENS", "STOP"],
        shows: (true, true),
        errors: [
            wrong_key,
            client(429),
            client(400),
            server(500),
            server(503),
            client(400),
            client(403),
            client(404),
        ],
        retry_after: Some("7"),
        broken: [Some("ServerError"), Some("EndedEarly"), Some("RemoteProtocolError")],
        no_vectors: None,
        models: Models::Listed,
        // it knows no comments
        misreads: &["comments"],
    }
}

#[tokio::test]
async fn googles_sdk_understands_the_format_of_ai_studio() -> anyhow::Result<()> {
    google("gemini", ("ClientError", 400.into())).judges().await
}

#[tokio::test]
async fn googles_sdk_gets_its_tokens_and_understands_the_format_of_vertex() -> anyhow::Result<()> {
    let judge = Judge { models: Models::Unasked, ..google("vertex", ("RefreshError", Value::Null)) };
    judge.judges().await
}

#[tokio::test]
async fn awss_sdk_signs_and_understands_the_format_and_its_checksums() -> anyhow::Result<()> {
    let named = |name: &'static str| (name, Value::from(name));
    let judge = Judge {
        sdk: "bedrock",
        ends: ["end_turn", "max_tokens", "tool_use"],
        shows: (true, false),
        errors: [
            ("ClientError", "UnrecognizedClientException".into()),
            named("ThrottlingException"),
            named("ValidationException"),
            named("InternalServerException"),
            named("ServiceUnavailableException"),
            named("ValidationException"),
            named("AccessDeniedException"),
            named("ResourceNotFoundException"),
        ],
        retry_after: Some("7"),
        broken: [Some("EventStreamError"), Some("EndedEarly"), Some("ProtocolError")],
        no_vectors: None,
        models: Models::Translated,
        misreads: &["damaged_frame"],
    };
    judge.judges().await
}

#[tokio::test]
async fn ollamas_sdk_understands_the_format() -> anyhow::Result<()> {
    let code = |code: u16| ("ResponseError", code.into());
    let judge = Judge {
        sdk: "ollama",
        ends: ["stop", "length", "stop"],
        shows: (false, false),
        errors: [code(401), code(429), code(400), code(500), code(503), code(400), code(402), code(404)],
        retry_after: None,
        broken: [Some("ResponseError"), Some("EndedEarly"), Some("RemoteProtocolError")],
        no_vectors: None,
        models: Models::Listed,
        misreads: &[],
    };
    judge.judges().await
}

#[tokio::test]
async fn anthropics_sdk_understands_the_batches() -> anyhow::Result<()> {
    let provider = JobUpstream::start(KEY).await?;
    let python = root().join(".tools/venv/bin/python");
    ensure!(python.is_file(), "{} is missing: run `scripts/setup.sh --test`", python.display());
    let mut command = tokio::process::Command::new(python);
    command.arg(root().join("tests/python/batches.py")).args([&provider.root(), KEY]);
    command.env("NO_PROXY", "127.0.0.1").kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = ended.context("the judge of batches does not end")?.context("cannot start python")?;
    let seen: Value = serde_json::from_str(succeeded(&output)?.trim()).context("not one JSON object")?;
    let expected = json!({
        "created": ["in_progress", 3],
        "listed": [true],
        "counts": [1, 1, 1, 0],
        "results": {"a": ["succeeded", "echo: hello", 3], "b": ["errored", "invalid_request_error"], "c": ["expired"]},
        "cancelling": "canceling",
        "cancelled": {"a": ["succeeded", "echo: hello", 3], "b": ["canceled"]},
        "refused": ["BadRequestError", 400],
    });
    assert_eq!(seen, expected);
    Ok(())
}
