//! Anthropic's Messages API.

mod request;
mod response;

use serde_json::{Value, json};

use super::{Call, Content, Format, Refusal, converse};
use crate::upstream::asked::Asked;
use crate::upstream::body::ID_DIGITS;
use crate::upstream::problem::Problem;
use crate::upstream::world::World;
use crate::upstream::{Script, Trouble, read};

/// Versions of the API. The second one refuses all sampling parameters.
const VERSIONS: [&str; 2] = ["2023-06-01", "2026-10-21"];
const MESSAGES: &str = "/v1/messages";
const MODELS: &str = "/v1/models";

pub(super) struct Anthropic;

impl Format for Anthropic {
    fn admits(&self, call: &Call<'_>, world: &World) -> bool {
        world.key().is_none_or(|key| call.header("x-api-key").or(call.bearer()) == Some(key))
    }

    fn asked(&self, call: &Call<'_>) -> Result<Option<Asked>, Problem> {
        let version = call
            .header("anthropic-version")
            .ok_or_else(|| Problem::invalid("anthropic-version: header is required"))?;
        if !VERSIONS.contains(&version) {
            let message = format!("anthropic-version: {version:?} is not a valid version");
            return Err(Problem::invalid(message));
        }
        match (call.method.as_str(), call.path) {
            ("POST", MESSAGES) => {
                let body = read::body(call.body)?;
                let fields = read::Fields::of(&body, "")?;
                Ok(Some(Asked::Chat(Box::new(request::asked(&fields, version)?))))
            }
            ("GET", MODELS) => Ok(None),
            _ => Err(call.unknown()),
        }
    }

    fn answer(&self, call: &Call<'_>, world: &World, script: &Script) -> Result<Content, Problem> {
        match self.asked(call)? {
            Some(Asked::Chat(chat)) => converse(&chat, world, script, response::whole, response::stream),
            _ => {
                let model = |id: &String| json!({"type": "model", "id": id, "display_name": id, "created_at": "2025-01-01T00:00:00Z"});
                let models: Vec<Value> = world.models().iter().map(model).collect();
                Ok(Content::Whole(
                    json!({"data": models, "has_more": false, "first_id": null, "last_id": null}),
                ))
            }
        }
    }

    fn refusal(&self, problem: &Problem, _retry_after_s: Option<u64>) -> Refusal {
        let (status, kind, usual) = words(problem.trouble);
        let message = problem.message_or(usual);
        let body = json!({
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": format!("req_{ID_DIGITS}"),
        });
        Refusal::new(problem, status, body)
    }
}

/// Status, `type` and usual message.
fn words(trouble: Trouble) -> (u16, &'static str, &'static str) {
    match trouble {
        Trouble::Invalid => (400, "invalid_request_error", "The request was refused."),
        Trouble::ContextLength => {
            (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
        }
        Trouble::ContentFilter => {
            (400, "invalid_request_error", "Output blocked by content filtering policy")
        }
        Trouble::WrongKey => (401, "authentication_error", "invalid x-api-key"),
        Trouble::OutOfCredit => (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
        ),
        Trouble::Forbidden => {
            (403, "permission_error", "Your API key does not have permission to use the specified resource.")
        }
        Trouble::NotFound => (404, "not_found_error", "The requested resource could not be found."),
        Trouble::TooLarge => (413, "request_too_large", "Request exceeds the maximum size"),
        Trouble::RateLimited => {
            (429, "rate_limit_error", "This request would exceed your account's rate limit.")
        }
        Trouble::Overloaded => (529, "overloaded_error", "Overloaded"),
        Trouble::Timeout => (504, "timeout_error", "The request timed out."),
        Trouble::Server => (500, "api_error", "Internal server error"),
    }
}
