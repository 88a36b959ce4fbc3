//! What a model can do, by its name: Google changes the rules with the generation.

/// The generation of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    /// Before 2.5, and families that are not Gemini (Gemma, tuned models under a number).
    Other,
    /// 2.5: thinks within a budget of tokens.
    Budgets {
        /// Whether thinking can be switched off; the Pro models cannot.
        can_stop: bool,
    },
    /// 3 and later: thinks at a level, and wants the signatures of its thoughts back.
    Levels,
}

impl Generation {
    /// Reads the name, as in `gemini-2.5-flash`, `models/gemini-3.5-flash` or `gemini-flash-latest` (an alias of the newest).
    pub(super) fn of(upstream_model: &str) -> Self {
        let name = upstream_model.rsplit('/').next().unwrap_or_default();
        let Some(rest) = name.strip_prefix("gemini-") else { return Self::Other };
        let version = rest.split('-').next().unwrap_or_default();
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        match (major.parse::<u32>(), minor.parse::<u32>()) {
            (Ok(2), Ok(5..)) => Self::Budgets { can_stop: !rest.contains("pro") },
            (Ok(3..), _) => Self::Levels,
            (Err(_), _) if rest.ends_with("-latest") => Self::Levels,
            _ => Self::Other,
        }
    }

    /// Whether calls of tools carry ids; older models match answers by their order, and refuse the field.
    pub(super) fn has_call_ids(self) -> bool {
        self == Self::Levels
    }

    /// Whether a call of a tool without the signature of the thought behind it is an error.
    pub(super) fn demands_signatures(self) -> bool {
        self == Self::Levels
    }

    /// Whether tools and a JSON answer can be asked for together.
    pub(super) fn has_json_beside_tools(self) -> bool {
        self == Self::Levels
    }

    /// Whether the answer of a tool may hold pictures.
    pub(super) fn has_pictures_of_tools(self) -> bool {
        self == Self::Levels
    }

    /// Whether a picture may be given by an address outside Google.
    pub(super) fn fetches_addresses(self) -> bool {
        self != Self::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_is_read_from_the_name() {
        let cases = [
            ("gemini-2.5-flash", Generation::Budgets { can_stop: true }),
            ("gemini-2.5-flash-lite-preview-09-2025", Generation::Budgets { can_stop: true }),
            ("publishers/google/models/gemini-2.5-pro", Generation::Budgets { can_stop: false }),
            ("gemini-3-pro-preview", Generation::Levels),
            ("models/gemini-3.5-flash", Generation::Levels),
            ("gemini-4-flash", Generation::Levels),
            ("gemini-flash-latest", Generation::Levels),
            ("gemini-2.0-flash", Generation::Other),
            ("gemini-1.5-pro-002", Generation::Other),
            ("gemini-embedding-001", Generation::Other),
            ("gemma-4-27b-it", Generation::Other),
            ("endpoints/1234567890", Generation::Other),
        ];
        for (name, expected) in cases {
            assert_eq!(Generation::of(name), expected, "{name}");
        }
    }
}
