//! The fields of OpenAI's chat request that the contract does not model, for providers that have to translate or refuse them.
//!
//! Reference: <https://platform.openai.com/docs/api-reference/chat/create>. Every other name is some provider's own.

/// Their names, `stream_options` apart: it only says how OpenAI streams.
const NAMES: [&str; 23] = [
    "audio",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "metadata",
    "modalities",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "top_logprobs",
    "user",
    "verbosity",
    "web_search_options",
    "stream_options",
];

pub(crate) fn is_openais(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether a field with this value (JSON) asks for what happens without it too.
pub(crate) fn says_nothing(name: &str, value: &str) -> bool {
    match name {
        "n" => matches!(value, "1" | "null"),
        "parallel_tool_calls" => matches!(value, "true" | "null"),
        "service_tier" => matches!(value, "\"auto\"" | "\"default\"" | "null"),
        // answers are always text, and usage always comes
        "modalities" => matches!(value, "[\"text\"]" | "null"),
        "stream_options" => true,
        _ => matches!(value, "null" | "false" | "0" | "{}" | "[]" | "\"\""),
    }
}
