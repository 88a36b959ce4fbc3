//! AWS Bedrock's runtime: Converse, ConverseStream and InvokeModel, signed by SigV4 or with a key as bearer token.

mod invoke;
mod request;
mod response;
mod signature;

use hyper::header::HeaderValue;
use serde_json::json;

use super::{Call, Content, Format, Refusal, converse};
use crate::upstream::asked::Asked;
use crate::upstream::problem::Problem;
use crate::upstream::world::World;
use crate::upstream::{Script, Trouble, read};

pub(super) struct Bedrock;

/// The id of the access key whose secret is the server's key.
pub(in crate::upstream) const ACCESS_KEY_ID: &str = "AKIDEXAMPLE";

/// Undoes the percent-encoding of a model's id.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Model and operation of `/model/<id>/<operation>`.
fn address<'a>(call: &Call<'a>) -> Result<(String, &'a str), Problem> {
    let found = call.path.strip_prefix("/model/").and_then(|rest| rest.split_once('/'));
    let (id, operation) =
        found.filter(|_| call.method == hyper::Method::POST).ok_or_else(|| call.unknown())?;
    Ok((decoded(id).ok_or_else(|| call.unknown())?, operation))
}

impl Format for Bedrock {
    fn admits(&self, call: &Call<'_>, world: &World) -> bool {
        let Some(key) = world.key() else { return true };
        call.bearer() == Some(key) || signature::is_right(call, ACCESS_KEY_ID, key)
    }

    fn asked(&self, call: &Call<'_>) -> Result<Option<Asked>, Problem> {
        let (model, operation) = address(call)?;
        let body = read::body(call.body)?;
        let fields = read::Fields::of(&body, "")?;
        Ok(Some(match operation {
            "converse" | "converse-stream" => {
                let mut chat = request::asked(&fields, &model)?;
                chat.stream = operation == "converse-stream";
                Asked::Chat(Box::new(chat))
            }
            "invoke" => invoke::asked(&fields, &model)?,
            _ => return Err(call.unknown()),
        }))
    }

    fn answer(&self, call: &Call<'_>, world: &World, script: &Script) -> Result<Content, Problem> {
        match self.asked(call)? {
            Some(Asked::Chat(chat)) => converse(&chat, world, script, response::whole, response::stream),
            Some(Asked::Embed(asked)) => {
                world.check_model(&asked.model)?;
                Ok(Content::Whole(invoke::vectors(&asked)?))
            }
            Some(Asked::Translate(asked)) => {
                world.check_model(&asked.model)?;
                Ok(Content::Whole(invoke::translation(&asked)))
            }
            _ => Err(call.unknown()),
        }
    }

    fn refusal(&self, problem: &Problem, _retry_after_s: Option<u64>) -> Refusal {
        let (status, name, usual) = words(problem.trouble);
        let mut refusal = Refusal::new(problem, status, json!({"message": problem.message_or(usual)}));
        // the name that the header has is what clients go by
        refusal.header = Some(("x-amzn-errortype", HeaderValue::from_static(name)));
        refusal
    }
}

/// Status, name and usual message. Source: the errors of `Converse` and AWS's common errors.
fn words(trouble: Trouble) -> (u16, &'static str, &'static str) {
    match trouble {
        Trouble::Invalid | Trouble::ContentFilter => (400, "ValidationException", "The request was refused."),
        Trouble::ContextLength => (
            400,
            "ValidationException",
            "The model returned the following errors: Input is too long for requested model.",
        ),
        Trouble::WrongKey => {
            (403, "UnrecognizedClientException", "The security token included in the request is invalid.")
        }
        Trouble::OutOfCredit | Trouble::Forbidden => {
            (403, "AccessDeniedException", "You don't have access to the model with the specified model ID.")
        }
        Trouble::NotFound => (404, "ResourceNotFoundException", "Could not resolve the foundation model."),
        Trouble::TooLarge => (413, "RequestEntityTooLargeException", "The request is too large."),
        Trouble::RateLimited => {
            (429, "ThrottlingException", "Too many requests, please wait before trying again.")
        }
        Trouble::Overloaded => {
            (503, "ServiceUnavailableException", "Bedrock is unable to process your request.")
        }
        Trouble::Timeout => (408, "ModelTimeoutException", "Model has timed out in processing the request."),
        Trouble::Server => (
            500,
            "InternalServerException",
            "The system encountered an unexpected error during processing. Try your request again.",
        ),
    }
}
