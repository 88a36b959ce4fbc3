use proptest::prelude::*;

use super::*;

/// Sun, 06 Nov 1994 08:49:37 GMT.
const NOW: UnixMillis = UnixMillis::new(784_111_777_000);

fn status(code: u16, retry_after: Option<&str>) -> Verdict {
    judge(&Answer::Status { code, retry_after: retry_after.map(str::to_owned) }, NOW)
}

const AGAIN: Verdict = Verdict::Retry { not_before: None };

#[test]
fn every_status_has_its_consequence() {
    for (code, verdict) in [
        (200, Verdict::Delivered),
        (204, Verdict::Delivered),
        (301, Verdict::Rejected),
        (400, Verdict::Rejected),
        (401, Verdict::Unauthorized),
        (403, Verdict::Unauthorized),
        (404, Verdict::Rejected),
        (413, Verdict::TooLarge),
        (415, Verdict::Rejected),
        (429, AGAIN),
        (500, AGAIN),
        (503, AGAIN),
    ] {
        assert_eq!(status(code, None), verdict, "{code}");
    }
    assert_eq!(judge(&Answer::Silence, NOW), AGAIN);
}

#[test]
fn retry_after_is_understood_in_both_forms_and_bounded() {
    let wait = |value| match status(503, Some(value)) {
        Verdict::Retry { not_before } => not_before.map(|wait| wait.as_secs()),
        other => panic!("{other:?}"),
    };
    assert_eq!(wait("7"), Some(7));
    assert_eq!(wait(" 0 "), Some(0));
    assert_eq!(wait("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
    assert_eq!(wait("Sunday, 06-Nov-94 08:49:47 GMT"), Some(10));
    assert_eq!(wait("Sun Nov  6 08:49:47 1994"), Some(10));
    assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
    assert_eq!(wait("Mon, 06 Nov 2034 08:49:37 GMT"), Some(300));
    assert_eq!(wait("99999"), Some(300));
    assert_eq!(wait("99999999999999999999999"), Some(300));
    for nonsense in ["", "-1", "1.5", "soon"] {
        assert_eq!(wait(nonsense), None, "{nonsense:?}");
    }
}

#[test]
fn a_rejection_is_not_softened_by_retry_after() {
    assert_eq!(status(400, Some("5")), Verdict::Rejected);
}

proptest! {
    #[test]
    fn waits_grow_up_to_the_bound_and_are_never_nothing(failures in 1_u32.., jitter in 0.0..=1.0_f64) {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(30) };
        let delay = backoff.delay(failures, jitter);
        prop_assert!(delay >= backoff.first / 2 && delay <= backoff.max);
        prop_assert!(backoff.delay(failures, 0.0) <= delay && delay <= backoff.delay(failures, 1.0));
        prop_assert!(backoff.delay(failures.saturating_add(1), jitter) >= delay);
    }

    #[test]
    fn no_header_makes_it_panic(value in "\\PC{0,40}") {
        let _ = status(503, Some(&value));
    }
}
