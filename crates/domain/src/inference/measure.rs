//! How much a request is: what it is expected to use, and the most that it can.

use std::time::Duration;

use super::{Generate, Message, Request, ResponseFormat, TOKENS_AROUND, audio};
use crate::{
    pricing::{Most, TokenUsage},
    units::Tokens,
};

impl Request {
    /// Tokens of the input's text, estimated (see [`crate::tokens`]). Audio is not counted: it is no text that a context holds.
    #[must_use]
    pub fn input_tokens(&self) -> Tokens {
        match self {
            Self::Generate(request) => crate::tokens::of_conversation(&request.messages, &request.tools),
            Self::Embed(request) => request.inputs.iter().map(|text| crate::tokens::of_text(text)).sum(),
            Self::Translate(request) => crate::tokens::of_text(&request.text),
            Self::Transcribe(request) => crate::tokens::of_text(&request.prompt),
            Self::Speak(request) => {
                crate::tokens::of_text(&request.input) + crate::tokens::of_text(&request.instructions)
            }
        }
    }

    /// Audio to listen to: as much as is expected.
    #[must_use]
    pub const fn audio(&self) -> Duration {
        match self {
            Self::Transcribe(request) => request.audio.expected(),
            _ => Duration::ZERO,
        }
    }

    /// Characters to speak.
    #[must_use]
    pub fn characters(&self) -> u64 {
        match self {
            Self::Speak(request) => request.characters(),
            _ => 0,
        }
    }

    /// What an attempt is taken to have used whose executor does not say: `output` tokens of text, and so many of the
    /// characters that were to be spoken.
    #[must_use]
    pub fn estimate(&self, output: Tokens, characters: u64) -> TokenUsage {
        let text = self.input_tokens();
        let usage = TokenUsage { input: text, output, estimated: true, ..TokenUsage::default() };
        match self {
            Self::Transcribe(request) => {
                let audio_input = request.audio_tokens();
                TokenUsage { input: text + audio_input, audio_input, audio: self.audio(), ..usage }
            }
            Self::Speak(_) => {
                let audio_output = audio::spoken(characters);
                TokenUsage { output: audio_output, audio_output, characters, ..usage }
            }
            _ => usage,
        }
    }

    /// The most that an attempt can use whose answer has at most `output` tokens.
    #[must_use]
    pub fn most(&self, output: Tokens) -> Most {
        let audio = match self {
            Self::Transcribe(request) => request.audio.longest(),
            _ => Duration::ZERO,
        };
        Most { input: self.input_tokens_max(), output, audio, characters: self.characters() }
    }

    /// The most tokens that the input can have, whatever the tokenizer: no token is shorter than a byte.
    #[must_use]
    pub fn input_tokens_max(&self) -> Tokens {
        let bytes = match self {
            Self::Generate(request) => {
                let messages = request.messages.iter().map(Message::tokens_max);
                let tools = request.tools.iter().map(|tool| {
                    let said = tool.name.len() + tool.description.len() + tool.parameters_json.len();
                    said + tool.extra_json.len() + TOKENS_AROUND
                });
                messages.chain(tools).fold(TOKENS_AROUND, usize::saturating_add)
            }
            Self::Embed(request) => request
                .inputs
                .iter()
                .fold(0_usize, |sum, text| sum.saturating_add(text.len() + TOKENS_AROUND)),
            // with the instruction that a model which writes is given
            Self::Translate(request) => request.text.len().saturating_add(16 * TOKENS_AROUND),
            Self::Transcribe(request) => request.input_tokens_max(),
            Self::Speak(request) => request.input.len().saturating_add(request.instructions.len()),
        };
        let format = match self {
            Self::Generate(Generate {
                response_format: Some(ResponseFormat::JsonSchema { schema_json, .. }),
                ..
            }) => schema_json.len(),
            _ => 0,
        };
        let carried = self.envelope().extra_json.len();
        Tokens::new(bytes.saturating_add(format).saturating_add(carried) as u64)
    }

    /// The caller's bound on the answer, where it gave one.
    #[must_use]
    pub fn max_output(&self) -> Option<Tokens> {
        match self {
            Self::Generate(request) => request.sampling.max_tokens.map(|count| Tokens::new(u64::from(count))),
            Self::Embed(_) => Some(Tokens::ZERO),
            // a translation is about as long as its text; twice is room enough
            Self::Translate(request) => {
                Some(Tokens::new(crate::tokens::of_text(&request.text).get() * 2 + 16))
            }
            Self::Transcribe(request) => Some(request.output_tokens_max()),
            Self::Speak(request) => Some(request.output_tokens_max()),
        }
    }
}
