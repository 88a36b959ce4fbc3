//! Where servers of the dialect differ in what they take.
//!
//! What a server is known to refuse is refused here by name, before the call: the caller then gets another candidate instead
//! of an error that looks like its own. A field that says nothing (`null`, `false`, an empty list) is left out instead.
//! Sources: <https://console.groq.com/docs/openai>, <https://platform.openai.com/docs/api-reference/chat/create>.

use domain::{
    fault::{Code, Fault, Origin},
    inference::{Generate, Role, Sampling, Speak, SpeechFormat, Transcribe, TranscriptFormat},
};

use super::chat_fields::says_nothing;
use crate::provider::json::Fields;

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// Any that is not named here: vLLM, llama.cpp's server, LM Studio, OpenRouter … Everything is passed on.
    Compatible,
    /// OpenAI's own.
    OpenAi,
    /// OpenAI's models on Azure.
    Azure,
    /// Groq.
    Groq,
}

/// Fields of OpenAI's that Groq answers with an error, or takes without effect.
const NOT_AT_GROQ: [&str; 12] = [
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "metadata",
    "store",
    "modalities",
    "audio",
    "prediction",
    "verbosity",
    "web_search_options",
    "prompt_cache_key",
    "safety_identifier",
];
/// What providers put beside an assistant's text or a call so that it comes back: of use to nobody but its maker.
const THOUGHTS: [&str; 7] = [
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "thinking_blocks",
    "output_items",
    "phase",
    "extra_content",
];

impl Flavor {
    const fn name(self) -> &'static str {
        match self {
            Self::Compatible => "the server",
            Self::OpenAi => "OpenAI",
            Self::Azure => "Azure OpenAI",
            Self::Groq => "Groq",
        }
    }

    /// A field that this server has no equivalent of; another one may.
    pub(super) fn unsupported(self, field: impl Into<String>, why: &str) -> Fault {
        let field = field.into();
        let message = format!("{field} is given, and {} {why}", self.name());
        Fault::new(Code::Unsupported, Origin::Caller, true, message).in_field(field)
    }

    /// Checks the modelled fields of a chat.
    ///
    /// # Errors
    /// `Unsupported`, naming the field.
    pub(super) fn check(self, request: &Generate) -> Result<(), Fault> {
        let Sampling { top_k, frequency_penalty, presence_penalty, .. } = &request.sampling;
        let given = |penalty: &Option<f32>| penalty.is_some_and(|penalty| penalty != 0.0);
        let none = "has no such field";
        if self != Self::Compatible && top_k.is_some() {
            return Err(self.unsupported("top_k", none));
        }
        if self != Self::Groq {
            return Ok(());
        }
        let penalties =
            [("frequency_penalty", given(frequency_penalty)), ("presence_penalty", given(presence_penalty))];
        if let Some((field, _)) = penalties.into_iter().find(|(_, given)| *given) {
            return Err(self.unsupported(field, "applies it to none of its models"));
        }
        let mut named = request.messages.iter().enumerate().filter(|(_, message)| !message.name.is_empty());
        match named.next() {
            Some((index, _)) => Err(self.unsupported(format!("messages[{index}].name"), none)),
            None => Ok(()),
        }
    }

    /// Checks the carried fields of a request and leaves out those that say nothing.
    ///
    /// # Errors
    /// `Unsupported`, naming the field.
    pub(super) fn carried<'a>(self, mut fields: Fields<'a>) -> Result<Fields<'a>, Fault> {
        if self != Self::Groq {
            return Ok(fields);
        }
        let refused = |key: &str| NOT_AT_GROQ.contains(&key);
        let says = |key: &str, value: &str| !says_nothing(key, value);
        if let Some((key, _)) = fields.iter().find(|(key, value)| refused(key) && says(key, value.get())) {
            return Err(self.unsupported(key, "does not offer it"));
        }
        // a tier with a price of its own
        if fields.iter().any(|(key, value)| key == "service_tier" && value.get() == "\"performance\"") {
            return Err(self.unsupported("service_tier", "has no known price for `performance`"));
        }
        fields.retain(|key| !refused(key));
        Ok(fields)
    }

    /// The carried fields of a message as this server takes them: OpenAI's own refuse notes that other models left on the
    /// answers of a conversation, and Groq takes its own under another name than the one they are given out under.
    pub(super) fn of_message<'a>(self, role: Role, mut fields: Fields<'a>) -> Fields<'a> {
        if role != Role::Assistant || self == Self::Compatible {
            return fields;
        }
        if self == Self::Groq {
            fields.rename("reasoning_content", "reasoning");
        }
        let taken = |key: &str| self == Self::Groq && key == "reasoning";
        fields.retain(|key| taken(key) || !THOUGHTS.contains(&key));
        fields
    }

    /// The carried fields of a call likewise.
    pub(super) fn of_call<'a>(self, mut fields: Fields<'a>) -> Fields<'a> {
        if self != Self::Compatible {
            fields.retain(|key| !THOUGHTS.contains(&key));
        }
        fields
    }

    /// The carried fields of a part likewise: what to cache is not asked by servers that cache by themselves.
    pub(super) fn of_part<'a>(self, mut fields: Fields<'a>) -> Fields<'a> {
        if self != Self::Compatible {
            fields.retain(|key| key != "cache_control");
        }
        fields
    }

    /// Checks a transcription or a translation.
    ///
    /// # Errors
    /// `Unsupported`, naming the field.
    pub(super) fn transcribes(self, request: &Transcribe, model: &str) -> Result<(), Fault> {
        let is_openais = matches!(self, Self::OpenAi | Self::Azure);
        // on Azure the name is a deployment's, and mostly that of its model
        let writes_only = is_openais && model.starts_with("gpt-");
        let refused = |field: &str, what: &str| Err(self.unsupported(field, what));
        if request.to_english && writes_only {
            return refused("model", "translates speech by whisper only");
        }
        if request.to_english && self == Self::Groq && model.contains("turbo") {
            return refused("model", "translates speech by the larger whisper only");
        }
        if request.format.is_timed() && writes_only {
            return refused("response_format", "has timestamps from whisper only");
        }
        let tells_speakers = model.contains("diarize") || self == Self::Compatible;
        if request.format == TranscriptFormat::Diarized && !tells_speakers {
            return refused("response_format", "does not tell speakers apart with this model");
        }
        Ok(())
    }

    /// Checks a request for speech.
    ///
    /// # Errors
    /// `Unsupported`, naming the field.
    pub(super) fn speaks(self, request: &Speak, model: &str) -> Result<(), Fault> {
        let instructed = !request.instructions.is_empty();
        let plain = self == Self::OpenAi && model.starts_with("tts-1");
        if instructed && (plain || self == Self::Groq) {
            return Err(self.unsupported("instructions", "takes none with this model"));
        }
        if self == Self::Groq {
            // https://console.groq.com/docs/text-to-speech/orpheus: wav alone, at its own speed
            if request.format != SpeechFormat::Wav {
                return Err(self.unsupported("response_format", "speaks wav only"));
            }
            if request.speed.is_some_and(|speed| (speed - 1.0).abs() > f32::EPSILON) {
                return Err(self.unsupported("speed", "speaks at one speed only"));
            }
        }
        Ok(())
    }

    /// Whether an embedding can be asked for.
    ///
    /// # Errors
    /// `Unsupported`.
    pub(super) fn embeds(self) -> Result<(), Fault> {
        if self == Self::Groq {
            return Err(self.unsupported("model", "offers no embeddings"));
        }
        Ok(())
    }
}
