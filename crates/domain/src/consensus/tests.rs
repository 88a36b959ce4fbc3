use proptest::prelude::*;

use super::*;

/// Answers by what they say.
struct Says(Vec<u8>);

impl Alike for Says {
    fn agree(&self, one: usize, other: usize) -> bool {
        self.0[one] == self.0[other]
    }
    fn nearness(&self, one: usize, other: usize) -> f32 {
        f32::from(u8::from(self.0[one] == self.0[other]))
    }
}

/// Lets the members answer one after the other, as they are asked; returns who was asked and how it ended.
fn play(says: &[Option<u8>], needed: usize) -> (usize, Step) {
    let alike = Says(says.iter().map(|said| said.unwrap_or_default()).collect());
    let mut members = vec![Member::Waiting; says.len()];
    for _ in 0..=says.len() * 3 {
        match next_step(&members, needed, &alike) {
            Step::Ask(places) => {
                assert!(!places.is_empty());
                for place in places {
                    assert_eq!(members[place], Member::Waiting, "asked twice");
                    members[place] = Member::Running;
                }
            }
            Step::Wait => {
                let place =
                    members.iter().position(|member| *member == Member::Running).expect("nobody to wait for");
                members[place] = if says[place].is_some() { Member::Answered } else { Member::Failed };
            }
            end => return (members.iter().filter(|member| **member != Member::Waiting).count(), end),
        }
    }
    panic!("it never ends");
}

#[test]
fn two_thirds_of_three_are_two_however_they_are_written() {
    // S1, "Multi-Model Consensus": consensus_models: 3, consensus_threshold: 0.66, "2/3 must agree"
    let policy = Policy::default();
    assert_eq!((policy.count, policy.agreement.of(3)), (3, 2));
    for count in [660, 666, 667, 670] {
        let agreement = Agreement::permille(count).unwrap();
        assert_eq!([3, 6, 9].map(|members| agreement.of(members)), [2, 4, 6], "{count}");
    }
    assert_eq!(Agreement::permille(1_000).unwrap().of(4), 4);
    // one alone agrees with nobody
    assert_eq!((Agreement::permille(1).unwrap().of(5), Agreement::TWO_THIRDS.of(1)), (2, 1));
    assert_eq!((Agreement::permille(0), Agreement::permille(1_001)), (None, None));
}

#[test]
fn the_third_is_asked_only_when_the_first_two_differ() {
    assert_eq!(play(&[Some(4), Some(4), Some(5)], 2), (2, Step::Agreed { group: vec![0, 1], chosen: 0 }));
    assert_eq!(play(&[Some(4), Some(5), Some(5)], 2), (3, Step::Agreed { group: vec![1, 2], chosen: 1 }));
    assert_eq!(play(&[Some(4), Some(5), Some(6)], 2), (3, Step::Split { group: vec![0] }));
    assert_eq!(play(&[None, Some(5), Some(5)], 2), (3, Step::Agreed { group: vec![1, 2], chosen: 1 }));
}

#[test]
fn nobody_is_asked_any_more_once_they_cannot_agree() {
    // of four all have to agree: two that differ settle it
    let (asked, end) = play(&[Some(1), Some(2), Some(1), Some(1)], 4);
    assert_eq!(asked, 4);
    assert_eq!(end, Step::Split { group: vec![0] });
}

#[test]
fn the_answer_is_the_one_nearest_to_all_others() {
    struct Line(Vec<f32>);
    impl Alike for Line {
        fn agree(&self, one: usize, other: usize) -> bool {
            (self.0[one] - self.0[other]).abs() <= 2.0
        }
        fn nearness(&self, one: usize, other: usize) -> f32 {
            -(self.0[one] - self.0[other]).abs()
        }
    }
    let end = next_step(&[Member::Answered; 3], 3, &Line(vec![0.0, 2.0, 1.0]));
    assert_eq!(end, Step::Agreed { group: vec![0, 1, 2], chosen: 2 });
    // alike is not transitive: 0 and 4 both agree with 2 and not with each other
    let end = next_step(&[Member::Answered; 3], 3, &Line(vec![0.0, 2.0, 4.0]));
    assert_eq!(end, Step::Split { group: vec![0, 1] });
}

proptest! {
    #[test]
    fn it_ends_and_asks_no_more_than_it_has_to(
        says in prop::collection::vec(prop::option::weighted(0.8, 0_u8..4), 1..=9),
        permille in 1_u32..=1_000,
    ) {
        let needed = Agreement::permille(permille).unwrap().of(says.len());
        let (asked, end) = play(&says, needed);
        let most = (0..4).map(|value| says.iter().filter(|said| **said == Some(value)).count()).max().unwrap_or(0);
        match end {
            Step::Agreed { group, chosen } => {
                prop_assert!(group.len() >= needed && group.contains(&chosen));
                prop_assert!(group.iter().all(|place| says[*place] == says[chosen] && says[chosen].is_some()));
            }
            Step::Split { .. } => prop_assert!(most < needed, "{most} of {needed} agreed"),
            other => prop_assert!(false, "{other:?}"),
        }
        let first_agree = says.iter().take(needed).all(|said| said.is_some() && *said == says[0]);
        prop_assert!(!first_agree || asked == needed, "{asked} were asked, {needed} would have done");
    }

    #[test]
    fn a_cosine_is_symmetric_and_in_range(one in prop::collection::vec(-1e3_f32..1e3, 3), other in prop::collection::vec(-1e3_f32..1e3, 3)) {
        let value = cosine(&one, &other);
        prop_assert!((-1.0..=1.0).contains(&value) && value.to_bits() == cosine(&other, &one).to_bits());
    }
}

#[test]
fn what_does_not_matter_is_taken_off() {
    for text in ["Paris", " paris. ", "**Paris**", "\"PARIS\"", "```\nParis\n```"] {
        assert_eq!(normalised(text), "paris", "{text}");
    }
    assert_ne!(normalised("-4"), normalised("4"));
    assert_ne!(normalised("4 %"), normalised("4"));
    assert_ne!(normalised("not good"), normalised("good"));
}

#[test]
fn labels_are_compared_exactly_and_sentences_by_meaning() {
    let long = "The capital of France is Paris, a city on the river Seine.";
    let settled = |json, one, other| Similarity::Fitting.settled(json, one, other);
    assert_eq!(settled(false, "yes", "no"), Similarity::Exact);
    assert_eq!(settled(false, "42", long), Similarity::Exact);
    assert_eq!(settled(false, long, long), Similarity::Embedding);
    assert_eq!(settled(true, long, long), Similarity::Json);
    assert_eq!(Similarity::Exact.settled(true, long, long), Similarity::Exact);
}

#[test]
fn vectors_of_no_length_are_like_nothing() {
    assert!((cosine(&[1.0, 0.0], &[2.0, 0.0]) - 1.0).abs() < 1e-6);
    for (one, other) in
        [(vec![0.0], vec![1.0]), (vec![1.0], vec![1.0, 0.0]), (vec![f32::NAN], vec![1.0]), (vec![], vec![])]
    {
        assert!(cosine(&one, &other).abs() < f32::EPSILON);
    }
}
