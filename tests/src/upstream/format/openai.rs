//! OpenAI's format, and those of Azure and Groq, which are nearly the same.

mod audio;
mod chat;
mod embeddings;
mod problem;
mod responses;

use serde_json::{Value, json};

use super::{Call, Content, Format, Refusal, converse};
use crate::upstream::asked::Asked;
use crate::upstream::problem::Problem;
use crate::upstream::world::World;
use crate::upstream::{Script, read};

pub(super) use embeddings::{token_count, vectors};

/// `created` of every answer: the same request gets the same answer on every day.
const CREATED_UNIX_S: u64 = 1_700_000_000;

/// Whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    OpenAi,
    Azure,
    Groq,
}

pub(super) struct OpenAi(Flavour);

pub(super) const OPENAI: OpenAi = OpenAi(Flavour::OpenAi);
pub(super) const AZURE: OpenAi = OpenAi(Flavour::Azure);
pub(super) const GROQ: OpenAi = OpenAi(Flavour::Groq);

/// What an address stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint<'a> {
    Chat,
    Responses,
    Embeddings,
    Transcriptions,
    Translations,
    Speech,
    Models,
    Model(&'a str),
}

impl OpenAi {
    /// The endpoint, and the deployment where the address names it.
    fn endpoint<'a>(&self, call: &Call<'a>) -> Result<(Endpoint<'a>, Option<&'a str>), Problem> {
        let strip = |prefix: &str| call.path.strip_prefix(prefix);
        let (rest, deployment) = match self.0 {
            Flavour::OpenAi => (strip("/v1/"), None),
            Flavour::Groq => (strip("/openai/v1/"), None),
            Flavour::Azure => match strip("/openai/deployments/").and_then(|rest| rest.split_once('/')) {
                Some((deployment, rest)) => {
                    if call.parameter("api-version").is_none_or(str::is_empty) {
                        return Err(Problem::new(crate::upstream::Trouble::NotFound, "Resource not found"));
                    }
                    (Some(rest), Some(deployment))
                }
                None => (strip("/openai/v1/"), None),
            },
        };
        let rest = rest.ok_or_else(|| call.unknown())?;
        let endpoint = match (call.method.as_str(), rest) {
            ("POST", "chat/completions") => Endpoint::Chat,
            ("POST", "responses") if self.0 != Flavour::Groq && deployment.is_none() => Endpoint::Responses,
            ("POST", "embeddings") if self.0 != Flavour::Groq => Endpoint::Embeddings,
            ("POST", "audio/transcriptions") => Endpoint::Transcriptions,
            ("POST", "audio/translations") => Endpoint::Translations,
            ("POST", "audio/speech") => Endpoint::Speech,
            ("GET", "models") if deployment.is_none() => Endpoint::Models,
            ("GET", rest) if deployment.is_none() => {
                Endpoint::Model(rest.strip_prefix("models/").ok_or_else(|| call.unknown())?)
            }
            _ => return Err(call.unknown()),
        };
        Ok((endpoint, deployment))
    }
}

impl Format for OpenAi {
    fn admits(&self, call: &Call<'_>, world: &World) -> bool {
        let shown = match self.0 {
            Flavour::Azure => call.header("api-key").or(call.bearer()),
            _ => call.bearer(),
        };
        world.key().is_none_or(|key| shown == Some(key))
    }

    fn asked(&self, call: &Call<'_>) -> Result<Option<Asked>, Problem> {
        let (endpoint, deployment) = self.endpoint(call)?;
        let body = match endpoint {
            Endpoint::Models | Endpoint::Model(_) => return Ok(None),
            Endpoint::Transcriptions | Endpoint::Translations => {
                let to_english = endpoint == Endpoint::Translations;
                let asked = audio::transcription(call, deployment, self.0, to_english)?;
                return Ok(Some(Asked::Transcribe(asked)));
            }
            _ => read::body(call.body)?,
        };
        let fields = read::Fields::of(&body, "")?;
        Ok(Some(match endpoint {
            Endpoint::Chat => Asked::Chat(Box::new(chat::asked(&fields, deployment, self.0)?)),
            Endpoint::Responses => Asked::Chat(Box::new(responses::asked(&fields)?)),
            Endpoint::Speech => Asked::Speak(audio::speaking(&fields, deployment, self.0)?),
            _ => Asked::Embed(embeddings::asked(&fields, deployment)?),
        }))
    }

    fn answer(&self, call: &Call<'_>, world: &World, script: &Script) -> Result<Content, Problem> {
        let (endpoint, _) = self.endpoint(call)?;
        match (endpoint, self.asked(call)?) {
            (Endpoint::Chat, Some(Asked::Chat(asked))) => converse(
                &asked,
                world,
                script,
                |answer| chat::whole(answer, self.0),
                |answer| chat::stream(answer, self.0),
            ),
            (Endpoint::Responses, Some(Asked::Chat(asked))) => {
                converse(&asked, world, script, responses::whole, responses::stream)
            }
            (_, Some(Asked::Embed(asked))) => {
                world.check_model(&asked.model)?;
                Ok(Content::Whole(embeddings::answer(&asked)?))
            }
            (_, Some(Asked::Transcribe(asked))) => {
                world.check_model(&asked.model)?;
                Ok(audio::transcript(&asked, script, self.0))
            }
            (_, Some(Asked::Speak(asked))) => {
                world.check_model(&asked.model)?;
                Ok(audio::speech(&asked, script))
            }
            (Endpoint::Models, _) => {
                let models: Vec<Value> = world.models().iter().map(|id| model(id)).collect();
                Ok(Content::Whole(json!({"object": "list", "data": models})))
            }
            (Endpoint::Model(id), _) => {
                world.check_model(id)?;
                Ok(Content::Whole(model(id)))
            }
            _ => Err(call.unknown()),
        }
    }

    fn refusal(&self, problem: &Problem, _retry_after_s: Option<u64>) -> Refusal {
        problem::refusal(problem, self.0)
    }
}

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": CREATED_UNIX_S, "owned_by": "fake"})
}
