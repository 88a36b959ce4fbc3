//! A request in no provider's words: what each format's reader makes of what arrived. A test compares these to see that
//! nothing was lost on the way to any provider.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::Problem;
use super::vector::fnv1a;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// An answer to a conversation.
    Chat(Box<Chat>),
    /// Vectors.
    Embed(Embed),
    /// A text in another language, of a model that does nothing else.
    Translate(Translate),
    /// A text from speech.
    Transcribe(Transcribe),
    /// Speech from a text.
    Speak(Speak),
}

/// A conversation that wants an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chat {
    /// The model, wherever the format names it.
    pub model: String,
    /// Instructions, in order.
    pub system: Vec<String>,
    /// What was said; no two in a row by the same speaker.
    pub turns: Vec<Turn>,
    /// Tools that may be called.
    pub tools: Vec<AskedTool>,
    /// `auto`, `none`, `required` or `tool:<name>`.
    pub tool_choice: Option<String>,
    /// Whether several calls at once are allowed, where it is said.
    pub parallel_tool_calls: Option<bool>,
    /// Whether the answer has to be JSON.
    pub json: bool,
    /// The schema it has to keep to.
    pub schema: Option<Value>,
    /// How the answer is drawn.
    pub sampling: AskedSampling,
    /// Whether the answer comes in pieces.
    pub stream: bool,
    /// Whether a stream says what it used; always, where nobody can choose.
    pub include_usage: bool,
}

/// Sampling, by OpenAI's names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskedSampling {
    /// Most tokens of the answer.
    pub max_tokens: Option<u64>,
    /// Temperature.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// Most likely so many.
    pub top_k: Option<u64>,
    /// Seed.
    pub seed: Option<u64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

/// Who speaks; results of tools are the user's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The one who asks.
    #[default]
    User,
    /// The model.
    Assistant,
}

/// What one speaker said until the other did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Turn {
    /// Who.
    pub speaker: Speaker,
    /// All text, put together.
    pub text: String,
    /// Reasoning that was sent back.
    pub reasoning: String,
    /// Signatures that were sent back: proof that reasoning is the model's own.
    pub signatures: Vec<String>,
    /// Pictures: an address, or `image/png 70 B #<hash>` of the bytes.
    pub images: Vec<String>,
    /// Calls the model made.
    pub calls: Vec<AskedCall>,
    /// What the tools said.
    pub results: Vec<AskedResult>,
}

/// A call of a tool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskedCall {
    /// Its id; empty where the format has none.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub arguments: Value,
}

/// What a tool said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskedResult {
    /// The call's id, or the tool's name where the format goes by that.
    pub id: String,
    /// The text; JSON where it is no text.
    pub text: String,
}

/// A tool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskedTool {
    /// Name.
    pub name: String,
    /// For the model.
    pub description: String,
    /// JSON schema of its arguments.
    pub parameters: Value,
}

/// Texts that become vectors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Embed {
    /// The model.
    pub model: String,
    /// The texts, as bytes where they are tokens.
    pub texts: Vec<Vec<u8>>,
    /// Length of the vectors, where it is said.
    pub dimensions: Option<usize>,
    /// Whether they come as base64 of little-endian 32-bit numbers.
    pub base64: bool,
}

/// A text for a translator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Translate {
    /// The model.
    pub model: String,
    /// The text.
    pub text: String,
    /// Language it is in, in the model's code.
    pub source: String,
    /// Language wanted, in the model's code.
    pub target: String,
}

/// Speech that becomes a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Transcribe {
    /// The model.
    pub model: String,
    /// Name of the file.
    pub file_name: String,
    /// Its type.
    pub media_type: String,
    /// Its size and a hash of its bytes: `48044 B #…`.
    pub audio: String,
    /// How long it lasts.
    pub seconds: f64,
    /// The language spoken.
    pub language: Option<String>,
    /// What the model is to go on with.
    pub prompt: Option<String>,
    /// Shape of the answer.
    pub format: String,
    /// Temperature.
    pub temperature: Option<f64>,
    /// Whether the answer comes in pieces.
    pub stream: bool,
    /// Whether the text is to be English.
    pub to_english: bool,
    /// What is timed.
    pub granularities: Vec<String>,
    /// What is told beside the text.
    pub include: Vec<String>,
    /// Names of the other fields of the form.
    pub others: Vec<String>,
}

/// A text that becomes speech.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Speak {
    /// The model.
    pub model: String,
    /// The text.
    pub input: String,
    /// The voice.
    pub voice: String,
    /// Container and codec.
    pub format: String,
    /// Speed.
    pub speed: Option<f64>,
    /// How to speak.
    pub instructions: Option<String>,
    /// Whether the audio comes in events.
    pub events: bool,
}

impl Chat {
    /// Takes in what was said next; the same speaker's next message belongs to the turn before.
    pub(super) fn add(&mut self, mut said: Turn) {
        match self.turns.last_mut() {
            Some(turn) if turn.speaker == said.speaker => {
                turn.text.push_str(&said.text);
                turn.reasoning.push_str(&said.reasoning);
                turn.signatures.append(&mut said.signatures);
                turn.images.append(&mut said.images);
                turn.calls.append(&mut said.calls);
                turn.results.append(&mut said.results);
            }
            _ => self.turns.push(said),
        }
    }

    /// Bytes of all text.
    pub(super) fn text_bytes(&self) -> usize {
        let turns = self
            .turns
            .iter()
            .map(|turn| turn.text.len() + turn.results.iter().map(|result| result.text.len()).sum::<usize>());
        self.system.iter().map(String::len).sum::<usize>() + turns.sum::<usize>()
    }

    /// What the user said last.
    pub(super) fn last_said(&self) -> Option<&Turn> {
        let spoken =
            |turn: &&Turn| turn.speaker == Speaker::User && !(turn.text.is_empty() && turn.images.is_empty());
        self.turns.iter().rev().find(spoken)
    }

    /// Every call must be answered in the turn after it, and nothing else, as Anthropic and Bedrock demand.
    pub(super) fn check_pairs(&self) -> Result<(), Problem> {
        let mut open: Vec<&str> = Vec::new();
        for (index, turn) in self.turns.iter().enumerate() {
            for result in &turn.results {
                let Some(at) = open.iter().position(|id| *id == result.id) else {
                    let message = format!("messages: tool result {:?} answers no call before it", result.id);
                    return Err(Problem::invalid_field("messages", message));
                };
                open.remove(at);
            }
            if let Some(id) = open.first() {
                let message = format!("messages: the call {id:?} has no result in turn {index}");
                return Err(Problem::invalid_field("messages", message));
            }
            open = turn.calls.iter().map(|call| call.id.as_str()).collect();
        }
        Ok(())
    }
}

/// The bytes of a picture, told apart by what they are.
///
/// # Errors
/// It is no base64, or not the kind of picture that it is called.
pub(super) fn picture(field: &str, claimed: Option<&str>, data: &str) -> Result<String, Problem> {
    let bytes = STANDARD
        .decode(data)
        .map_err(|error| Problem::invalid_field(field, format!("the picture is no base64: {error}")))?;
    let kind = match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', ..] => "image/webp",
        _ => return Err(Problem::invalid_field(field, "the bytes are no picture")),
    };
    if let Some(claimed) = claimed.filter(|claimed| *claimed != kind) {
        return Err(Problem::invalid_field(field, format!("the picture is {kind}, not {claimed}")));
    }
    Ok(format!("{kind} {} B #{:016x}", bytes.len(), fnv1a(bytes.iter().copied())))
}

/// A picture by address: `data:` is looked into.
pub(super) fn picture_at(field: &str, url: &str) -> Result<String, Problem> {
    let Some(rest) = url.strip_prefix("data:") else { return Ok(url.to_owned()) };
    let Some((kind, data)) = rest.split_once(";base64,") else {
        return Err(Problem::invalid_field(field, "a data address without base64"));
    };
    picture(field, Some(kind), data)
}

/// What proves that a text is the model's own reasoning.
pub(super) fn signature(text: &str) -> String {
    STANDARD.encode(format!("signed:{:016x}", fnv1a(text.bytes())))
}
