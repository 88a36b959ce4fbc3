//! Which maker's model an id names, where makers differ in what Converse passes on to them.

/// A maker, as far as requests differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Anthropic's, with its version; 0.0 where the id does not say.
    Claude(u32, u32),
    /// Amazon's first Nova.
    Nova,
    /// Amazon's second, which reasons.
    Nova2,
    Mistral,
    /// Cohere's Command.
    Cohere,
    /// OpenAI's open weights.
    GptOss,
    /// Another, or an id that hides it: an application inference profile, an imported model.
    Other,
}

impl Family {
    /// Reads a model id (`anthropic.claude-opus-4-6-v1`), an inference profile's (`eu.anthropic.…`) or an ARN of either.
    pub(super) fn of(model: &str) -> Self {
        let id = model.rsplit('/').next().unwrap_or(model);
        let mut parts = id.split('.');
        let maker = |part: &str| matches!(part, "anthropic" | "amazon" | "mistral" | "cohere" | "openai");
        // at most one part, the profile's geography, stands before the maker
        let Some(maker) = parts.by_ref().take(2).find(|part| maker(part)) else { return Self::Other };
        let name = parts.next().unwrap_or_default();
        match maker {
            "anthropic" => {
                let (major, minor) = version(name);
                Self::Claude(major, minor)
            }
            "amazon" if name.starts_with("nova-2") => Self::Nova2,
            "amazon" if name.starts_with("nova") => Self::Nova,
            "mistral" => Self::Mistral,
            "cohere" => Self::Cohere,
            "openai" if name.starts_with("gpt-oss") => Self::GptOss,
            _ => Self::Other,
        }
    }
}

/// The first number of the name, and the one right after it; dates and revisions (`v1`) are none.
fn version(name: &str) -> (u32, u32) {
    let number = |part: &str| part.parse().ok().filter(|number| *number < 100);
    let mut parts = name.split('-').skip_while(|part| number(part).is_none()).map(number);
    (parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_read_from_every_kind_of_id() {
        for (model, family) in [
            ("anthropic.claude-opus-4-6-v1", Family::Claude(4, 6)),
            ("eu.anthropic.claude-3-7-sonnet-20250219-v1:0", Family::Claude(3, 7)),
            ("anthropic.claude-opus-5", Family::Claude(5, 0)),
            ("anthropic.claude-opus-4-20250514-v1:0", Family::Claude(4, 0)),
            ("anthropic.claude-v2:1", Family::Claude(0, 0)),
            (
                "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/global.anthropic.claude-sonnet-4-5-20250929-v1:0",
                Family::Claude(4, 5),
            ),
            ("us.amazon.nova-pro-v1:0", Family::Nova),
            ("us.amazon.nova-2-lite-v1:0", Family::Nova2),
            ("mistral.mistral-large-2407-v1:0", Family::Mistral),
            ("openai.gpt-oss-120b-1:0", Family::GptOss),
            ("meta.llama3-1-8b-instruct-v1:0", Family::Other),
            ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3", Family::Other),
            ("", Family::Other),
        ] {
            assert_eq!(Family::of(model), family, "{model}");
        }
    }
}
