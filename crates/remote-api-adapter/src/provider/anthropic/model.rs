//! What a generation of Claude takes and what it refuses, read from the model's name.
//!
//! The API refuses these with 400, as if the caller were wrong; told before the call, the request can go elsewhere. A Claude
//! without a version is taken for the newest, a model that is no Claude (servers that only speak the format) for one without
//! restrictions. Sources, all below <https://platform.claude.com/docs/en/>, read in November 2026:
//! `build-with-claude/thinking-troubleshooting`, `build-with-claude/effort`, `api/messages`, and the migration guides of the
//! models.

/// A line of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Haiku,
    Sonnet,
    Opus,
    Fable,
    Mythos,
    /// A Claude of another line.
    Other,
}

/// A model, as far as rules depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model(Option<(Family, (u8, u8))>);

/// Of names without a version.
const NEWEST: (u8, u8) = (u8::MAX, 0);

impl Model {
    /// Reads a name such as `claude-opus-4-1-20250805`, `claude-3-7-sonnet-20250219` or `anthropic/claude-sonnet-4.6`.
    pub(super) fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let mut words = name.split(|c: char| !c.is_ascii_alphanumeric()).skip_while(|word| *word != "claude");
        if words.next().is_none() {
            return Self(None);
        }
        let words: Vec<&str> = words.collect();
        let families = [
            ("haiku", Family::Haiku),
            ("sonnet", Family::Sonnet),
            ("opus", Family::Opus),
            ("fable", Family::Fable),
            ("mythos", Family::Mythos),
        ];
        let family = families.into_iter().find(|(word, _)| words.contains(word));
        // a date is longer than a version's number
        let number = |word: &&str| word.parse::<u8>().ok().filter(|_| word.len() <= 2);
        let mut numbers = words.iter().skip_while(|word| number(word).is_none());
        let version = match (numbers.next().and_then(number), numbers.next().and_then(number)) {
            (Some(major), minor) => (major, minor.unwrap_or(0)),
            (None, _) => NEWEST,
        };
        Self(Some((family.map_or(Family::Other, |(_, family)| family), version)))
    }

    fn before(self, version: (u8, u8)) -> bool {
        self.0.is_none_or(|(_, own)| own < version)
    }

    /// Thinks within a budget of tokens; from 4.6 on it decides itself, within an effort.
    pub(super) fn thinks_by_budget(self) -> bool {
        self.before((4, 6))
    }

    /// Knows the effort `max`, and from 4.7 on `xhigh`.
    pub(super) fn knows_effort(self, effort: &str) -> bool {
        match effort {
            "xhigh" => !self.before((4, 7)),
            "max" => !self.before((4, 6)),
            _ => true,
        }
    }

    /// The kind of `thinking` with which it thinks least; `None` where it always thinks.
    pub(super) fn least_thinking(self) -> Option<&'static str> {
        match self.0 {
            Some((Family::Fable | Family::Mythos | Family::Other, version)) if version >= (5, 0) => None,
            Some((Family::Opus, version)) if version >= (5, 5) => None,
            Some((Family::Sonnet, version)) if version >= (5, 5) => Some("between_tools"),
            _ => Some("disabled"),
        }
    }

    /// Takes `temperature`, `top_p` and `top_k`.
    pub(super) fn samples(self) -> bool {
        self.before((4, 7))
    }

    /// Takes `temperature` and `top_p` together.
    pub(super) fn samples_both_ways(self) -> bool {
        self.before((4, 1))
    }

    /// Continues an answer that the caller has begun.
    pub(super) fn continues(self) -> bool {
        self.before((4, 6))
    }

    /// Can be made to call a tool.
    pub(super) fn obeys_tool_choice(self) -> bool {
        match self.0 {
            None | Some((Family::Haiku, _)) => true,
            Some((Family::Opus | Family::Sonnet, version)) => version < (5, 5),
            Some((Family::Fable | Family::Mythos | Family::Other, version)) => version < (5, 1),
        }
    }

    /// Keeps to a JSON schema.
    pub(super) fn keeps_to_schemas(self) -> bool {
        self.0.is_none_or(|(_, version)| version >= (4, 5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names() {
        for (name, expected) in [
            ("claude-3-7-sonnet-20250219", Some((Family::Sonnet, (3, 7)))),
            ("claude-3-haiku-20240307", Some((Family::Haiku, (3, 0)))),
            ("claude-sonnet-4-20250514", Some((Family::Sonnet, (4, 0)))),
            ("claude-opus-4-1-20250805", Some((Family::Opus, (4, 1)))),
            ("claude-haiku-4-5", Some((Family::Haiku, (4, 5)))),
            ("anthropic/claude-opus-4.6", Some((Family::Opus, (4, 6)))),
            ("us.anthropic.claude-opus-4-6-v1:0", Some((Family::Opus, (4, 6)))),
            ("claude-opus-5", Some((Family::Opus, (5, 0)))),
            ("claude-fable-5-2", Some((Family::Fable, (5, 2)))),
            ("claude-mythos-preview", Some((Family::Mythos, NEWEST))),
            ("Claude", Some((Family::Other, NEWEST))),
            ("deepseek-chat-3", None),
        ] {
            assert_eq!(Model::of(name).0, expected, "{name}");
        }
    }

    #[test]
    fn each_generation_has_its_rules() {
        // budget, sampling, begun answers, forced tools, schemas, least thinking
        for (name, budget, samples, continues, obeys, schemas, least) in [
            ("claude-sonnet-4-20250514", true, true, true, true, false, Some("disabled")),
            ("claude-haiku-4-5", true, true, true, true, true, Some("disabled")),
            ("claude-opus-4-6", false, true, false, true, true, Some("disabled")),
            ("claude-opus-4-7", false, false, false, true, true, Some("disabled")),
            ("claude-opus-5", false, false, false, true, true, Some("disabled")),
            ("claude-opus-5-5", false, false, false, false, true, None),
            ("claude-sonnet-5-5", false, false, false, false, true, Some("between_tools")),
            ("claude-haiku-5-5", false, false, false, true, true, Some("disabled")),
            ("claude-fable-5-2", false, false, false, false, true, None),
            ("claude-next", false, false, false, false, true, None),
            ("glm-5", true, true, true, true, true, Some("disabled")),
        ] {
            let model = Model::of(name);
            let rules = (
                model.thinks_by_budget(),
                model.samples(),
                model.continues(),
                model.obeys_tool_choice(),
                model.keeps_to_schemas(),
                model.least_thinking(),
            );
            assert_eq!(rules, (budget, samples, continues, obeys, schemas, least), "{name}");
        }
        assert!(!Model::of("claude-opus-4-6").knows_effort("xhigh"));
        assert!(Model::of("claude-opus-4-6").knows_effort("max"));
        assert!(!Model::of("claude-opus-4-5").samples_both_ways());
    }
}
