//! Google's generateContent API, as AI Studio (key) and as Vertex AI (OAuth token, project and location in the path).

mod embeddings;
mod request;
mod response;
mod token;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Call, Content, Format, Refusal, converse};
use crate::upstream::asked::Asked;
use crate::upstream::problem::Problem;
use crate::upstream::world::World;
use crate::upstream::{Script, Trouble, read};

pub(in crate::upstream) use token::ServiceAccount;

/// Where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum House {
    AiStudio,
    Vertex,
}

pub(super) struct Google(House);

pub(super) const GEMINI: Google = Google(House::AiStudio);
pub(super) const VERTEX: Google = Google(House::Vertex);

/// Where Vertex's callers get their tokens. Google has that on another host.
const TOKEN: &str = "/token";

/// `…/models/<model>:<verb>`; without a verb, what is known of models.
struct Address<'a> {
    model: &'a str,
    verb: &'a str,
}

impl Google {
    fn address<'a>(&self, call: &Call<'a>) -> Result<Address<'a>, Problem> {
        let path = call.path.trim_start_matches('/');
        let (version, rest) = path.split_once('/').ok_or_else(|| call.unknown())?;
        let rest = match (self.0, version) {
            (House::AiStudio, "v1" | "v1beta") => Some(rest),
            (House::Vertex, "v1" | "v1beta1") => after_location(rest),
            _ => None,
        };
        let rest = rest.and_then(|rest| rest.strip_prefix("models")).ok_or_else(|| call.unknown())?;
        let rest = rest.trim_start_matches('/');
        let (model, verb) = rest.split_once(':').unwrap_or((rest, ""));
        Ok(Address { model, verb })
    }

    fn body(call: &Call<'_>) -> Result<Value, Problem> {
        if call.method != hyper::Method::POST {
            return Err(call.unknown());
        }
        Ok(camel_case(read::body(call.body)?))
    }
}

/// Values whose keys are the caller's own.
const FREE: [&str; 8] = [
    "args",
    "response",
    "parameters",
    "parametersJsonSchema",
    "responseSchema",
    "responseJsonSchema",
    "_responseJsonSchema",
    "labels",
];

/// Google takes each field by two names, and its own SDK mixes them; from here on there is one.
fn camel_case(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.into_iter().map(renamed).collect()),
        Value::Array(list) => list.into_iter().map(camel_case).collect(),
        other => other,
    }
}

fn renamed((name, value): (String, Value)) -> (String, Value) {
    let (lead, rest) = name.split_at(usize::from(name.starts_with('_')));
    let mut words = rest.split('_');
    let mut camel = [lead, words.next().unwrap_or_default()].concat();
    for word in words {
        let (first, rest) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
        camel.push_str(&first.to_ascii_uppercase());
        camel.push_str(rest);
    }
    let value = if FREE.contains(&camel.as_str()) { value } else { camel_case(value) };
    (camel, value)
}

/// What follows `projects/<project>/locations/<location>/publishers/google/`, if the first two are named.
fn after_location(path: &str) -> Option<&str> {
    let (project, rest) = path.strip_prefix("projects/")?.split_once('/')?;
    let (location, rest) = rest.strip_prefix("locations/")?.split_once('/')?;
    let named = !project.is_empty() && !location.is_empty();
    rest.strip_prefix("publishers/google/").filter(|_| named)
}

impl Format for Google {
    fn admits(&self, call: &Call<'_>, world: &World) -> bool {
        match self.0 {
            House::AiStudio => {
                let shown = call.header("x-goog-api-key").or(call.parameter("key"));
                world.key().is_none_or(|key| shown == Some(key))
            }
            House::Vertex if call.path == TOKEN => true,
            House::Vertex => {
                let is_free = world.key().is_none() && world.service_account().is_none();
                is_free
                    || call
                        .bearer()
                        .is_some_and(|shown| world.key() == Some(shown) || world.has_issued(shown))
            }
        }
    }

    fn asked(&self, call: &Call<'_>) -> Result<Option<Asked>, Problem> {
        if self.is_aside(call) {
            return Ok(None);
        }
        let Address { model, verb } = self.address(call)?;
        let is_vertex = self.0 == House::Vertex;
        Ok(Some(match verb {
            "generateContent" | "streamGenerateContent" => {
                let body = Self::body(call)?;
                let mut chat = request::asked(&read::Fields::of(&body, "")?, model, is_vertex)?;
                chat.stream = verb == "streamGenerateContent";
                if chat.stream && call.parameter("alt") != Some("sse") {
                    return Err(Problem::invalid_field("alt", "only alt=sse is played here"));
                }
                Asked::Chat(Box::new(chat))
            }
            "embedContent" | "batchEmbedContents" | "predict" => {
                let body = Self::body(call)?;
                Asked::Embed(embeddings::asked(&read::Fields::of(&body, "")?, model, verb)?)
            }
            "" if call.method == hyper::Method::GET => return Ok(None),
            _ => return Err(call.unknown()),
        }))
    }

    fn answer(&self, call: &Call<'_>, world: &World, script: &Script) -> Result<Content, Problem> {
        if self.is_aside(call) {
            return token::issue(call.body, world).map(Content::Whole);
        }
        let Address { model, verb } = self.address(call)?;
        let shape = response::Shape { with_ids: self.0 == House::AiStudio };
        match self.asked(call)? {
            Some(Asked::Chat(chat)) => {
                converse(&chat, world, script, |answer| shape.whole(answer), |answer| shape.stream(answer))
            }
            Some(Asked::Embed(asked)) => {
                world.check_model(&asked.model)?;
                Ok(Content::Whole(embeddings::answer(&asked, verb)?))
            }
            _ if model.is_empty() => {
                let models: Vec<Value> = world.models().iter().map(|id| known(id)).collect();
                Ok(Content::Whole(json!({"models": models})))
            }
            _ => {
                world.check_model(model)?;
                Ok(Content::Whole(known(model)))
            }
        }
    }

    fn refusal(&self, problem: &Problem, retry_after_s: Option<u64>) -> Refusal {
        refusal(problem, retry_after_s, self.0)
    }

    fn tells_retry_after_in_header(&self) -> bool {
        false
    }

    fn is_aside(&self, call: &Call<'_>) -> bool {
        self.0 == House::Vertex && call.path == TOKEN
    }
}

fn known(id: &str) -> Value {
    json!({
        "name": format!("models/{id}"), "displayName": id, "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "embedContent"],
    })
}

/// Errors as `google.rpc.Status`.
fn refusal(problem: &Problem, retry_after_s: Option<u64>, house: House) -> Refusal {
    if problem.trouble == Trouble::ContentFilter {
        // no error at all: an answer without a candidate
        let usage = json!({"promptTokenCount": 4, "totalTokenCount": 4});
        let body = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage});
        return Refusal::new(problem, StatusCode::OK.as_u16(), body);
    }
    if token::FIELDS.contains(&problem.field.as_str()) {
        let body = json!({"error": "invalid_grant", "error_description": problem.message});
        return Refusal::new(problem, StatusCode::BAD_REQUEST.as_u16(), body);
    }
    let (status, name, usual) = words(problem.trouble, house);
    let message = problem.message_or(usual);
    let mut details = Vec::new();
    if let Some(reason) = match (problem.trouble, house) {
        (Trouble::WrongKey, House::AiStudio) => Some("API_KEY_INVALID"),
        (Trouble::OutOfCredit, _) => Some("BILLING_DISABLED"),
        _ => None,
    } {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com",
        }));
    }
    if !problem.field.is_empty() {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": problem.field, "description": message}],
        }));
    }
    if let Some(seconds) = retry_after_s {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s"),
        }));
    }
    let code = problem.status.map_or(status, |status| status.as_u16());
    let mut error = json!({"code": code, "message": message, "status": name});
    if let Some(fields) = error.as_object_mut().filter(|_| !details.is_empty()) {
        fields.insert("details".to_owned(), details.into());
    }
    Refusal::new(problem, status, json!({"error": error}))
}

/// HTTP status, status and usual message.
fn words(trouble: Trouble, house: House) -> (u16, &'static str, &'static str) {
    const INVALID: &str = "INVALID_ARGUMENT";
    match trouble {
        Trouble::Invalid | Trouble::ContentFilter => (400, INVALID, "Request contains an invalid argument."),
        Trouble::ContextLength => (
            400,
            INVALID,
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        ),
        Trouble::WrongKey if house == House::AiStudio => {
            (400, INVALID, "API key not valid. Please pass a valid API key.")
        }
        Trouble::WrongKey => (
            401,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.",
        ),
        Trouble::OutOfCredit => (
            403,
            "PERMISSION_DENIED",
            "This API method requires billing to be enabled. Please enable billing on the project.",
        ),
        Trouble::Forbidden => (403, "PERMISSION_DENIED", "The caller does not have permission"),
        Trouble::NotFound => (404, "NOT_FOUND", "Requested entity was not found."),
        Trouble::TooLarge => (413, INVALID, "Request payload size exceeds the limit."),
        Trouble::RateLimited => {
            (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")
        }
        Trouble::Overloaded => (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
        Trouble::Timeout => (504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
        Trouble::Server => (500, "INTERNAL", "An internal error has occurred. Please retry."),
    }
}
