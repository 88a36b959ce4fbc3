use proptest::prelude::*;

use super::*;

fn answer(text: &str) -> Answer {
    Answer { text: text.to_owned(), calls: Vec::new(), finish: Finish::Stop, refused: false }
}

const ASKED: Question<'_> = Question { text: "why?", schema_json: None, is_bounded: false, language: None };

fn score(checker: &impl Checker, text: &str) -> Option<u32> {
    match checker.check(&ASKED, &answer(text)) {
        Finding::Scored(score, _) => Some(score.as_permille()),
        Finding::NotApplicable(_) => None,
    }
}

fn checked(weight: u32, permille: Option<u32>) -> Checked {
    let finding = match permille {
        Some(count) => Finding::Scored(Score::permille(count), String::new()),
        None => Finding::not_applicable("nothing to see"),
    };
    Checked { name: "x".to_owned(), weight, finding }
}

#[test]
fn the_threshold_and_the_attempts_are_those_of_the_owners_document() {
    // S1, "Adjust Quality Threshold": quality_threshold: 0.7; "Pattern 4": max_fallback_attempts=2, one try and two more
    assert_eq!((Policy::default().threshold, Policy::default().attempts_max), (Score::permille(700), 3));
    // S1, "Pattern 4": 0.65 fails, 0.92 passes
    let verdict = |count| Verdict::of(vec![checked(1, Some(count))], Policy::default().threshold);
    assert!(!verdict(650).passed && verdict(920).passed && verdict(700).passed);
}

#[test]
fn one_aspect_that_fails_wholly_fails_the_answer() {
    let verdict = Verdict::of(vec![checked(100, Some(1_000)), checked(1, Some(0))], Score::permille(1));
    assert_eq!((verdict.score, verdict.passed), (Score::ZERO, false));
    assert_eq!(verdict.failed(), ["x"]);
}

#[test]
fn what_has_nothing_to_say_does_not_count() {
    let verdict = Verdict::of(vec![checked(9, None), checked(1, Some(640))], Score::permille(700));
    assert_eq!(verdict.score, Score::permille(640));
    assert_eq!(Verdict::of(vec![checked(1, None)], Score::FULL).score, Score::FULL);
}

#[test]
fn weights_count() {
    // (0.81^1 * 1.0^1)^(1/2) = 0.9; (0.81^1 * 1.0^3)^(1/4) = 0.949
    let both =
        |weight| Verdict::of(vec![checked(1, Some(810)), checked(weight, Some(1_000))], Score::ZERO).score;
    assert_eq!((both(1), both(3)), (Score::permille(900), Score::permille(949)));
}

proptest! {
    #[test]
    fn a_verdict_lies_between_the_worst_and_the_best_finding(
        scores in prop::collection::vec((1_u32..=100, 0_u32..=1_000), 1..12)
    ) {
        let verdict = Verdict::of(scores.iter().map(|(w, s)| checked(*w, Some(*s))).collect(), Score::ZERO);
        let low = scores.iter().map(|(_, s)| *s).min().unwrap_or(0);
        let high = scores.iter().map(|(_, s)| *s).max().unwrap_or(0);
        // rounding to thousandths
        prop_assert!((low.saturating_sub(1)..=high + 1).contains(&verdict.score.as_permille()));
    }

    #[test]
    fn no_text_makes_a_check_panic(text in "\\PC{0,400}|[`~a-z\n ]{0,200}") {
        for found in [
            Empty.check(&ASKED, &answer(&text)),
            Refusal.check(&ASKED, &answer(&text)),
            Truncation.check(&ASKED, &answer(&text)),
            Repetition.check(&ASKED, &answer(&text)),
        ] {
            prop_assert!(!matches!(found, Finding::Scored(score, _) if score > Score::FULL));
        }
    }
}

#[test]
fn an_empty_answer_fails_unless_it_calls_a_tool() {
    assert_eq!(score(&Empty, " \n"), Some(0));
    assert_eq!(score(&Empty, "4"), Some(1_000));
    let call = ToolCall {
        id: "1".to_owned(),
        name: "look".to_owned(),
        arguments_json: "{}".to_owned(),
        extra_json: String::new(),
    };
    let calling = Answer { calls: vec![call], finish: Finish::ToolCalls, ..answer("") };
    assert_eq!(Empty.check(&ASKED, &calling), Finding::good());
}

#[test]
fn a_refusal_is_known_by_its_opening() {
    for text in [
        "I'm sorry, but I can't help with that request.",
        "I’m sorry, but I can’t assist with that.",
        "Sorry, I can't answer this.",
        "As an AI language model, I do not have opinions.",
        "Es tut mir leid, aber ich kann diese Frage nicht beantworten.",
    ] {
        assert_eq!(score(&Refusal, text), Some(0), "{text}");
    }
    let long =
        format!("{} The clerk said: I cannot help you.", "The story begins in a town by the sea. ".repeat(8));
    for text in ["Paris.", "You can't help it: the capital is Paris.", &long] {
        assert_eq!(score(&Refusal, text), Some(1_000), "{text}");
    }
    let marked = Answer { refused: true, ..answer("Let us talk about something else.") };
    assert_eq!(Refusal.check(&ASKED, &marked), Finding::bad("the provider marked the answer as a refusal"));
    let filtered = Answer { finish: Finish::ContentFilter, ..answer("The") };
    assert!(matches!(Refusal.check(&ASKED, &filtered), Finding::Scored(Score::ZERO, _)));
}

#[test]
fn a_cut_answer_fails_unless_the_caller_wanted_it_short() {
    let cut = Answer { finish: Finish::Length, ..answer("Once upon a") };
    assert_eq!(Truncation.check(&ASKED, &cut), Finding::bad("the model ran out of tokens"));
    let bounded = Question { is_bounded: true, ..ASKED };
    assert!(matches!(Truncation.check(&bounded, &cut), Finding::NotApplicable(_)));
    for text in ["```python\nprint(1)\n", "the sum of both is (", "take the red one,"] {
        assert_eq!(score(&Truncation, text), Some(0), "{text}");
    }
    let open = "The reason why this happens is that the server keeps the connection open until the client";
    assert_eq!(score(&Truncation, open), Some(600));
    for text in [
        "4",
        "Paris",
        "The reason is that the server keeps the connection open until the client closes it by itself.",
        "```python\nprint(1)\n```",
        "- one\n- two",
        "See https://example.com/a/very/long/address/that/goes/on/and/on/until/it/ends/somewhere/else",
    ] {
        assert_eq!(score(&Truncation, text), Some(1_000), "{text}");
    }
}

#[test]
fn a_loop_fails_and_a_list_does_not() {
    assert_eq!(score(&Repetition, &"no ".repeat(9)), Some(0));
    assert_eq!(score(&Repetition, &"the cat sat on the mat and then ".repeat(20)), Some(0));
    assert_eq!(score(&Repetition, "Paris is the capital of France."), None);
    let list: String = (1..20).map(|n| format!("{n}. item number {n} costs {} dollars\n", n * 7)).collect();
    assert_eq!(score(&Repetition, &list), Some(1_000));
    let half = format!(
        "{} {}",
        "we go on and on and on like this ".repeat(3),
        "until finally something new is said here"
    );
    let found = score(&Repetition, &half).unwrap();
    assert!((1..1_000).contains(&found), "{found}");
}

#[test]
fn fences_are_found_as_markdown_has_them() {
    let text = "Here:\n```python title=x\nprint('```')\n```\nand\n~~~~\n```\n~~~~\n  ```js\n1\n  ```\n";
    let found: Vec<(&str, &str)> =
        fences(text).into_iter().map(|fence| (fence.language, fence.code)).collect();
    assert_eq!(found, [("python", "print('```')\n"), ("", "```\n"), ("js", "1\n")]);
    assert!(!has_open_fence(text) && has_open_fence("```\nx"));
    assert!(fences("a ``` b ``` c").is_empty());
}

mod escalation {
    use std::sync::Arc;

    use super::super::stronger;
    use crate::{
        id::{DeploymentId, ModelName, NodeId},
        pricing::Price,
        routing::{
            Candidate, Capabilities, Deployment, DeploymentState, Estimate, Latency, Preference, Tier,
        },
        units::{Bytes, Money, Tokens},
    };

    fn candidate(model: &str, tier: Tier, cost: i64) -> Candidate {
        let deployment = Deployment {
            id: DeploymentId::new(format!("m/p/{model}")).unwrap(),
            model: ModelName::new(model).unwrap(),
            provider: "p".to_owned(),
            tier,
            machine: NodeId::new("m").unwrap(),
            executor: "e".to_owned(),
            capabilities: Capabilities::default(),
            context_length: Tokens::new(1),
            slots: 1,
            price: Some(Price::FREE),
            state: DeploymentState::Warm,
            degraded: false,
            vram: Bytes::new(0),
            embedding_dimensions: 0,
            load: std::time::Duration::ZERO,
        };
        Candidate {
            deployment: Arc::new(deployment),
            estimate: Estimate {
                worst_case_cost: Money::picodollars(cost),
                expected_cost: Money::picodollars(cost),
                latency: Latency::default(),
                score: cost,
            },
            preference: Preference::Any,
        }
    }

    #[test]
    fn escalation_goes_up_the_tiers_of_the_owners_document() {
        // S1, "Architecture": local fast, local quality, API fallback; "Pattern 4": mixtral fails, claude-sonnet is asked
        let [fast, good, cloud, dear] = [
            candidate("small", Tier::LocalCpu, 0),
            candidate("large", Tier::LocalGpu, 0),
            candidate("mini", Tier::RemoteApi, 5),
            candidate("frontier", Tier::RemoteApi, 9),
        ];
        let order = [&fast, &good, &cloud, &dear];
        for (at, failed) in order.iter().enumerate() {
            for (other_at, other) in order.iter().enumerate() {
                assert_eq!(stronger(other, failed), other_at > at, "{other_at} after {at}");
            }
        }
    }

    #[test]
    fn the_same_model_elsewhere_would_say_the_same() {
        let here = candidate("small", Tier::LocalCpu, 0);
        assert!(!stronger(&candidate("small", Tier::Fallback, 0), &here));
        assert!(stronger(&candidate("other", Tier::LocalCpu, 0), &here));
    }
}
