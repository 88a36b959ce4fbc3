//! A loaded model and what can be done with it from any thread: prompts and tokens. Computing belongs to the one thread that
//! owns the context ([`super::scheduler`]).

use std::sync::OnceLock;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::model::{LlamaChatMessage, LlamaChatTemplate, LlamaModel};
use llama_cpp_2::token::LlamaToken;

use domain::fault::{Code, Fault, Origin};
use domain::units::Bytes;

use super::dialogue::{Abilities, Message};
use super::sampling::Thought;
use super::template::{Conversation, Template, TemplateError};
use super::{EngineError, Spec};
use crate::gguf::Header;

/// What begins and ends parts of an answer. Some models have tokens for them that are not shown otherwise.
const MARKS: [&str; 8] = [
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<|python_tag|>",
    "<think>",
    "</think>",
];
/// Brackets around the number of a protected text (see [`Model::prompt`]); private-use characters.
const OPEN: char = '\u{f8fe}';
const CLOSE: char = '\u{f8ff}';

/// llama.cpp, started once for the process, with its log sent to `tracing`.
pub(super) fn backend() -> Result<&'static LlamaBackend, EngineError> {
    static BACKEND: OnceLock<Option<LlamaBackend>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
        LlamaBackend::init().ok()
    });
    backend.as_ref().ok_or(EngineError::Backend)
}

/// How prompts are made.
#[derive(Debug)]
enum Renderer {
    /// The model's own template.
    Jinja(Template),
    /// llama.cpp's built-in imitation of a template family, for models whose own cannot be read, or that have none.
    BuiltIn(LlamaChatTemplate),
}

/// A prompt, ready to compute.
pub(super) struct Prompt {
    pub(super) tokens: Vec<LlamaToken>,
    /// Whether the answer begins with reasoning.
    pub(super) thought: Thought,
}

/// Weights, vocabulary and template.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) llama: LlamaModel,
    renderer: Renderer,
    /// Texts of the tokens that structure a prompt, longest first.
    control_texts: Vec<String>,
    /// Control tokens of [`MARKS`].
    pub(super) marks: Vec<LlamaToken>,
    /// What it can do beside text.
    pub(super) abilities: Abilities,
    /// Bytes of tensors.
    pub(super) weights: Bytes,
    /// Most bytes of text that one token stands for.
    pub(super) longest_piece: usize,
    /// Whether the model says how the vectors of tokens become one: see [`super::embedder`].
    pub(super) pools: bool,
}

impl Model {
    /// Loads the weights. The file's header must have been checked: see [`crate::gguf`].
    pub(super) fn load(spec: &Spec, header: &Header) -> Result<Self, EngineError> {
        let parameters =
            LlamaModelParams::default().with_n_gpu_layers(spec.gpu_layers).with_use_mmap(spec.mmap);
        let llama = LlamaModel::load_from_file(backend()?, &spec.path, &parameters)
            .map_err(|error| EngineError::Load(error.to_string()))?;
        let control_texts = control_texts(&llama);
        let renderer = renderer(&llama, header)?;
        let weights = Bytes::new(llama.size());
        let vocabulary = llama.vocab();
        let lengths = vocabulary.tokens().map(|token| vocabulary.token_to_piece(token, true, None).len());
        let longest_piece = lengths.max().unwrap_or(1);
        let pools = header.metadata.pooling;
        let abilities = match renderer {
            Renderer::Jinja(_) => Abilities::of(header.metadata.chat_template.as_deref()),
            Renderer::BuiltIn(_) => Abilities::default(),
        };
        let marks = marks(&llama);
        Ok(Self { llama, renderer, control_texts, marks, abilities, weights, longest_piece, pools })
    }

    /// Whether the model brings its own chat template, readable as Jinja.
    pub(super) fn has_own_template(&self) -> bool {
        matches!(self.renderer, Renderer::Jinja(_))
    }

    /// The tokens of the prompt for a conversation.
    ///
    /// A message that contains the text of a control token (`<|im_end|>`) would otherwise end itself and could speak in
    /// another role. Such texts, and only those, are replaced by placeholders before the template runs, and afterwards enter
    /// the prompt as plain characters.
    pub(super) fn prompt(&self, conversation: &Conversation<'_>) -> Result<Prompt, Fault> {
        if self.abilities.calls.is_none() {
            without_tools(conversation)?;
        }
        let mut originals = vec![];
        let text = self.render(conversation, &mut |content| self.protect(content, &mut originals))?;
        let end = text.trim_end();
        let thought = match self.abilities.thinks {
            true if end.ends_with("<think>") => Thought::Begun,
            true if !end.ends_with("</think>") => Thought::Possible,
            _ => Thought::None,
        };
        Ok(Prompt { tokens: self.tokenize(&text, &originals), thought })
    }

    /// The tokens of a text that is embedded, with whatever the model wants at its ends.
    pub(super) fn text_tokens(&self, text: &str) -> Vec<LlamaToken> {
        self.llama.vocab().tokenize(text.as_bytes(), true, false)
    }

    fn render(
        &self,
        conversation: &Conversation<'_>,
        protect: &mut dyn FnMut(&str) -> String,
    ) -> Result<String, Fault> {
        let fault = |error: &TemplateError| match error {
            TemplateError::Refused(_) => Fault::invalid("messages", error.to_string()),
            _ => Fault::new(Code::Unsupported, Origin::Local, false, error.to_string()).in_field("messages"),
        };
        match &self.renderer {
            Renderer::Jinja(template) => {
                template.render(conversation, protect).map_err(|error| fault(&error))
            }
            Renderer::BuiltIn(template) => {
                let message = |message: &Message| {
                    LlamaChatMessage::new(message.role.to_owned(), protect(&message.content))
                };
                let chat: Result<Vec<_>, _> = conversation.messages.iter().map(message).collect();
                let chat = chat.map_err(|error| Fault::invalid("messages", error.to_string()))?;
                self.llama
                    .apply_chat_template(template, &chat, true)
                    .map_err(|error| fault(&TemplateError::Failed(error.to_string())))
            }
        }
    }

    fn protect(&self, content: &str, originals: &mut Vec<String>) -> String {
        let brackets = [OPEN.to_string(), CLOSE.to_string()];
        let texts: Vec<&String> = self
            .control_texts
            .iter()
            .chain(&brackets)
            .filter(|text| content.contains(text.as_str()))
            .collect();
        let mut protected = String::with_capacity(content.len());
        let mut rest = content;
        loop {
            // The earliest, and of several at one place the longest.
            let found = texts.iter().filter_map(|text| rest.find(text.as_str()).map(|start| (start, *text)));
            let Some((start, text)) =
                found.min_by_key(|(start, text)| (*start, usize::MAX.saturating_sub(text.len())))
            else {
                protected.push_str(rest);
                return protected;
            };
            protected.push_str(rest.get(..start).unwrap_or_default());
            protected.push_str(&format!("{OPEN}{}{CLOSE}", originals.len()));
            originals.push(text.clone());
            rest = rest.get(start.saturating_add(text.len())..).unwrap_or_default();
        }
    }

    fn tokenize(&self, text: &str, originals: &[String]) -> Vec<LlamaToken> {
        let vocabulary = self.llama.vocab();
        let mut tokens = vec![];
        let mut parts = text.split(OPEN);
        vocabulary.tokenize_into(parts.next().unwrap_or_default().as_bytes(), &mut tokens, false, true);
        for part in parts {
            let (number, after) = part.split_once(CLOSE).unwrap_or(("", part));
            let original = number.parse().ok().and_then(|index: usize| originals.get(index));
            vocabulary.tokenize_into(
                original.map_or("", String::as_str).as_bytes(),
                &mut tokens,
                false,
                false,
            );
            vocabulary.tokenize_into(after.as_bytes(), &mut tokens, false, true);
        }
        // Some templates write the first token themselves.
        if vocabulary.should_add_bos() && tokens.first() != Some(&vocabulary.bos()) {
            tokens.insert(0, vocabulary.bos());
        }
        tokens
    }
}

/// Refuses tools, and messages of and to them, for a model that knows nothing of them.
fn without_tools(conversation: &Conversation<'_>) -> Result<(), Fault> {
    let refused = |field: String, what: &str| {
        let text = format!("{field} has {what}, which this model's chat template cannot say");
        Err(Fault::new(Code::Unsupported, Origin::Caller, false, text).in_field(field))
    };
    if !conversation.tools.is_empty() {
        return refused("tools".to_owned(), "tools");
    }
    for (index, message) in conversation.messages.iter().enumerate() {
        if message.role == "tool" {
            return refused(format!("messages[{index}].role"), "the answer of a tool");
        }
        if !message.calls.is_empty() {
            return refused(format!("messages[{index}].tool_calls"), "calls of tools");
        }
    }
    Ok(())
}

fn marks(llama: &LlamaModel) -> Vec<LlamaToken> {
    let vocabulary = llama.vocab();
    let tokens = MARKS.iter().map(|mark| vocabulary.tokenize(mark.as_bytes(), false, true));
    let single = tokens.filter_map(|tokens| <[LlamaToken; 1]>::try_from(tokens).ok());
    single.flatten().filter(|token| vocabulary.is_control(*token)).collect()
}

fn control_texts(llama: &LlamaModel) -> Vec<String> {
    let vocabulary = llama.vocab();
    let special =
        vocabulary.tokens().filter(|token| vocabulary.is_control(*token) || vocabulary.is_eog(*token));
    let text = |token| vocabulary.text(token).and_then(|text| text.to_str().ok()).map(str::to_owned);
    let mut texts: Vec<String> = special.filter_map(text).filter(|text| text.len() > 1).collect();
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    texts.dedup();
    texts
}

fn renderer(llama: &LlamaModel, header: &Header) -> Result<Renderer, EngineError> {
    let vocabulary = llama.vocab();
    let text = |token: LlamaToken| {
        (token.0 >= 0).then(|| vocabulary.text(token)).flatten().map(|t| t.to_string_lossy().into_owned())
    };
    let (bos, eos) = (text(vocabulary.bos()), text(vocabulary.eos()));
    if let Some(source) = &header.metadata.chat_template {
        match Template::new(source.clone(), bos.unwrap_or_default(), eos.unwrap_or_default()) {
            Ok(template) => return Ok(Renderer::Jinja(template)),
            Err(error) => tracing::warn!(%error, "falling back to llama.cpp's built-in chat templates"),
        }
    }
    let name = header.metadata.chat_template.as_deref().unwrap_or("chatml");
    let template = LlamaChatTemplate::new(name).map_err(|error| EngineError::Load(error.to_string()))?;
    Ok(Renderer::BuiltIn(template))
}
