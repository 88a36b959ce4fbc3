//! Errors in OpenAI's shape, and in Azure's, which has the status as its code.

use serde_json::{Value, json};

use super::Flavour;
use crate::upstream::Trouble;
use crate::upstream::format::Refusal;
use crate::upstream::problem::Problem;

/// Status, `type`, `code` and usual message.
fn words(trouble: Trouble) -> (u16, &'static str, Option<&'static str>, &'static str) {
    const INVALID: &str = "invalid_request_error";
    match trouble {
        Trouble::Invalid => (400, INVALID, None, "The request was refused."),
        Trouble::ContextLength => (
            400,
            INVALID,
            Some("context_length_exceeded"),
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. Please reduce the length of the messages.",
        ),
        Trouble::ContentFilter => (400, INVALID, Some("content_filter"), "The prompt was filtered."),
        Trouble::WrongKey => (
            401,
            INVALID,
            Some("invalid_api_key"),
            "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
        ),
        Trouble::OutOfCredit => (
            429,
            "insufficient_quota",
            Some("insufficient_quota"),
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        Trouble::Forbidden => {
            (403, INVALID, Some("unsupported_country_region_territory"), "Not allowed here.")
        }
        Trouble::NotFound => (404, INVALID, None, "There is no such thing."),
        Trouble::TooLarge => (413, INVALID, None, "The request is too large."),
        Trouble::RateLimited => {
            (429, "requests", Some("rate_limit_exceeded"), "Rate limit reached for requests.")
        }
        Trouble::Overloaded => {
            (503, "server_error", None, "The engine is currently overloaded, please try again later.")
        }
        Trouble::Timeout => (504, "server_error", None, "The request took too long."),
        Trouble::Server => (
            500,
            "server_error",
            None,
            "The server had an error while processing your request. Sorry about that!",
        ),
    }
}

pub(super) fn refusal(problem: &Problem, flavour: Flavour) -> Refusal {
    let (status, kind, code, usual) = words(problem.trouble);
    let unknown_model = problem.trouble == Trouble::NotFound && problem.field == "model";
    let code = if unknown_model { Some("model_not_found") } else { code };
    let message = problem.message_or(usual);
    let param = (!problem.field.is_empty()).then_some(problem.field.as_str());
    let body = match flavour {
        Flavour::Azure => azure(problem, status, code, &message, param),
        Flavour::OpenAi | Flavour::Groq => {
            json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
        }
    };
    Refusal::new(problem, status, body)
}

fn azure(problem: &Problem, status: u16, code: Option<&str>, message: &str, param: Option<&str>) -> Value {
    match problem.trouble {
        Trouble::ContentFilter => json!({"error": {
            "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
            "type": null,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {"violence": {"filtered": true, "severity": "high"}},
            },
        }}),
        Trouble::Invalid | Trouble::ContextLength => {
            json!({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}})
        }
        Trouble::NotFound if problem.field == "model" => json!({"error": {
            "code": "DeploymentNotFound",
            "message": "The API deployment for this resource does not exist.",
        }}),
        Trouble::WrongKey => json!({"error": {
            "code": "401",
            "message": "Access denied due to invalid subscription key or wrong API endpoint.",
        }}),
        Trouble::OutOfCredit => {
            json!({"error": {"message": message, "type": "insufficient_quota", "param": null, "code": code}})
        }
        _ => json!({"error": {"code": status.to_string(), "message": message}}),
    }
}
