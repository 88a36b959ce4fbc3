//! Ollama's own API.

mod request;
mod response;

use serde_json::{Value, json};

use super::{Call, Content, Format, Refusal, converse};
use crate::upstream::asked::Asked;
use crate::upstream::format::openai::{token_count, vectors};
use crate::upstream::problem::Problem;
use crate::upstream::read::{self, Fields};
use crate::upstream::stream::{Framing, Streamed, line};
use crate::upstream::world::World;
use crate::upstream::{Script, Trouble};

pub(super) struct Ollama;

impl Format for Ollama {
    /// Ollama itself has no keys; a proxy before it may.
    fn admits(&self, call: &Call<'_>, world: &World) -> bool {
        world.key().is_none_or(|key| call.bearer() == Some(key))
    }

    fn asked(&self, call: &Call<'_>) -> Result<Option<Asked>, Problem> {
        match (call.method.as_str(), call.path) {
            ("POST", "/api/chat") => {
                let body = read::body(call.body)?;
                Ok(Some(Asked::Chat(Box::new(request::chat(&Fields::of(&body, "")?)?))))
            }
            ("POST", "/api/embed") => {
                let body = read::body(call.body)?;
                Ok(Some(Asked::Embed(request::embed(&Fields::of(&body, "")?)?)))
            }
            ("GET", "/api/tags" | "/api/version" | "/api/ps") | ("POST", "/api/show" | "/api/pull") => {
                Ok(None)
            }
            _ => Err(call.unknown()),
        }
    }

    fn answer(&self, call: &Call<'_>, world: &World, script: &Script) -> Result<Content, Problem> {
        match self.asked(call)? {
            Some(Asked::Chat(chat)) => converse(&chat, world, script, response::whole, response::stream),
            Some(Asked::Embed(asked)) => {
                world.check_model(&asked.model)?;
                Ok(Content::Whole(json!({
                    "model": asked.model,
                    "embeddings": vectors(&asked)?,
                    "total_duration": 14_143_917,
                    "load_duration": 1_019_500,
                    "prompt_eval_count": token_count(&asked.texts),
                })))
            }
            _ => aside(call, world),
        }
    }

    fn refusal(&self, problem: &Problem, _retry_after_s: Option<u64>) -> Refusal {
        let (status, usual) = match problem.trouble {
            Trouble::Invalid | Trouble::ContentFilter => (400, "invalid request"),
            Trouble::ContextLength => (400, "the input length exceeds the context length"),
            Trouble::WrongKey => (401, "unauthorized"),
            Trouble::OutOfCredit => (402, "payment required"),
            Trouble::Forbidden => (403, "forbidden"),
            Trouble::NotFound => (404, "not found"),
            Trouble::TooLarge => (413, "request too large"),
            Trouble::RateLimited => (429, "too many requests"),
            Trouble::Overloaded => (503, "server busy, please try again. maximum pending requests exceeded"),
            Trouble::Timeout => (504, "timed out waiting for llama runner to start"),
            Trouble::Server => (500, "llama runner process has terminated: exit status 2"),
        };
        let message = if problem.trouble == Trouble::NotFound && problem.field == "model" {
            let name = problem.message.split('`').nth(1).unwrap_or_default();
            format!("model '{name}' not found")
        } else {
            problem.message_or(usual)
        };
        Refusal::new(problem, status, json!({"error": message}))
    }
}

/// Everything that asks no model.
fn aside(call: &Call<'_>, world: &World) -> Result<Content, Problem> {
    let described = |name: &String| {
        json!({
            "name": name, "model": name, "modified_at": "2025-01-01T00:00:00Z", "size": 4_700_000_000_u64,
            "digest": "sha256:fake", "details": details(),
        })
    };
    match call.path {
        "/api/version" => Ok(Content::Whole(json!({"version": "0.12.0"}))),
        "/api/tags" | "/api/ps" => {
            let models: Vec<Value> = world.models().iter().map(described).collect();
            Ok(Content::Whole(json!({"models": models})))
        }
        path => {
            let body = read::body(call.body)?;
            let fields = Fields::of(&body, "")?;
            let name = fields.text("model")?.or(fields.text("name")?).unwrap_or_default();
            if path == "/api/show" {
                world.check_model(name)?;
                return Ok(Content::Whole(shown(name)));
            }
            if name.starts_with("missing") || name.is_empty() {
                return Err(Problem::new(Trouble::Server, "pull model manifest: file does not exist"));
            }
            world.pull(name);
            Ok(if fields.flag("stream")? == Some(false) {
                Content::Whole(json!({"status": "success"}))
            } else {
                Content::Stream(pulling())
            })
        }
    }
}

fn details() -> Value {
    json!({
        "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "8.0B",
        "quantization_level": "Q4_K_M",
    })
}

fn shown(name: &str) -> Value {
    let capabilities: &[&str] =
        if name.contains("embed") { &["embedding"] } else { &["completion", "tools", "vision", "thinking"] };
    json!({
        "modelfile": "FROM fake", "parameters": "", "template": "{{ .Prompt }}", "details": details(),
        "model_info": {
            "general.architecture": "llama", "llama.context_length": 131_072, "llama.embedding_length": 8,
        },
        "capabilities": capabilities, "modified_at": "2025-01-01T00:00:00Z",
    })
}

/// The progress of a download.
fn pulling() -> Streamed {
    let part = |completed: u64| json!({"status": "pulling 6a0746a1ec1a", "digest": "sha256:6a0746a1ec1a", "total": 100, "completed": completed});
    let manifest = json!({"status": "pulling manifest"});
    let success = line(&json!({"status": "success"}));
    let begun = [manifest, part(0), part(50), part(100), json!({"status": "verifying sha256 digest"})];
    let pieces = begun.iter().map(line).chain([success.clone()]).collect();
    let error = line(&json!({"error": "max retries exceeded: EOF"}));
    Streamed { framing: Framing::Lines, pieces, ending: 1, accent: success, error }
}
