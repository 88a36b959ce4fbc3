use std::time::Duration;

use domain::{
    budget::WhenSpent,
    id::{KeyId, NodeId},
    key::{Allowed, Limits, Spending},
};

use super::*;

const SECRET: &str = "hk_ci_0123456789abcdef";

fn key(limits: Limits) -> Key {
    let digest = ring::digest::digest(&ring::digest::SHA256, SECRET.as_bytes());
    Key {
        id: KeyId::new("ci").unwrap(),
        machine: NodeId::new("mainpc").unwrap(),
        sha256: Some(digest.as_ref().try_into().unwrap()),
        expires_unix_ms: None,
        disabled: false,
        limits,
        spending: Spending {
            per_day: None,
            per_month: None,
            when_spent: WhenSpent::Reject,
            parts: Vec::new(),
        },
        allowed: Allowed::default(),
    }
}

fn gate(masters: &[&str], required: bool, keys: Vec<Key>) -> Gate {
    Gate {
        masters: masters.iter().map(|key| SecretString::from(*key)).collect(),
        required: required || !masters.is_empty(),
        keys: VirtualKeys::with(keys),
        clock: Clock::system(),
        meters: Arc::default(),
    }
}

fn authorization(text: &str) -> Shown<'_> {
    Shown { authorization: Some(text), x_api_key: None }
}

#[test]
fn only_a_known_key_is_let_in() {
    let gate = gate(&["sk-a", "sk-b"], false, vec![key(Limits::default())]);
    let is_master = |shown| matches!(gate.visitor(shown), Ok(Visitor::Master));
    assert!(is_master(authorization("Bearer sk-b")));
    assert!(is_master(Shown { authorization: None, x_api_key: Some("sk-a") }));
    let ours = format!("Bearer {SECRET}");
    assert_eq!(gate.visitor(authorization(&ours)).unwrap().tenant(), "ci");
    for wrong in [
        "Bearer sk-",
        "Bearer ",
        "Basic sk-a",
        "sk-a",
        "Bearer hk_ci_0123456789abcdee",
        "Bearer hk_no_0",
        "Bearer hk_",
    ] {
        assert_eq!(gate.visitor(authorization(wrong)).unwrap_err().code, Code::Unauthenticated, "{wrong:?}");
    }
    assert_eq!(gate.visitor(Shown::default()).unwrap_err().code, Code::Unauthenticated);
}

#[test]
fn where_nobody_has_to_show_a_key_a_virtual_one_still_counts() {
    let open = gate(&[], false, vec![key(Limits::default())]);
    for anyone in [Shown::default(), authorization("Bearer sk-of-the-sdk"), authorization("Basic x")] {
        assert!(matches!(open.visitor(anyone), Ok(Visitor::Anyone)));
    }
    assert!(open.visitor(authorization(&format!("Bearer {SECRET}"))).unwrap().key().is_some());
    assert!(open.visitor(authorization("Bearer hk_ci_guessed")).is_err());
    let closed = gate(&[], true, Vec::new());
    assert!(
        closed.visitor(Shown::default()).is_err() && closed.visitor(authorization("Bearer sk-x")).is_err()
    );
}

#[test]
fn a_key_that_is_revoked_or_disabled_opens_nothing() {
    let shown = format!("Bearer {SECRET}");
    for bad in [
        Key { sha256: None, ..key(Limits::default()) },
        Key { disabled: true, ..key(Limits::default()) },
        Key { expires_unix_ms: Some(1), ..key(Limits::default()) },
    ] {
        let fault = gate(&[], false, vec![bad]).visitor(authorization(&shown)).unwrap_err();
        assert_eq!(fault.code, Code::Unauthenticated);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_tokens_and_what_is_at_once_are_limited() {
    let limits =
        Limits { requests_per_minute: Some(3), tokens_per_minute: Some(1_000), concurrency: Some(2) };
    let visitor = Visitor::Key(Arc::new(key(limits)));
    let gate = gate(&[], false, Vec::new());
    let first = gate.admit(&visitor, 600, 1).unwrap();
    let refused = gate.admit(&visitor, 600, 1).unwrap_err();
    assert!(refused.message.contains("1000 tokens a minute"), "{refused}");
    assert_eq!((refused.code, refused.retryable), (Code::RateLimited, true));
    assert!(refused.retry_after.is_some_and(|wait| wait > Duration::from_secs(59)));
    let second = gate.admit(&visitor, 400, 1).unwrap();
    assert!(gate.admit(&visitor, 0, 1).unwrap_err().message.contains("2 requests at once"));
    // what was not used is free again
    first.used(100);
    drop((first, second));
    let third = gate.admit(&visitor, 900, 1).unwrap();
    let standing = gate.meters.standing(&KeyId::new("ci").unwrap()).unwrap();
    assert_eq!((standing.requests.unwrap().left, standing.tokens.unwrap().left), (0, 0));
    drop(third);
    assert!(gate.admit(&visitor, 0, 1).unwrap_err().message.contains("3 requests a minute"));
    tokio::time::advance(Duration::from_secs(62)).await;
    assert!(gate.admit(&visitor, 1_000, 1).is_ok());
}

#[tokio::test(start_paused = true)]
async fn coordinators_share_the_limits() {
    let limits = Limits { requests_per_minute: Some(3), ..Limits::default() };
    let visitor = Visitor::Key(Arc::new(key(limits)));
    let gate = gate(&[], false, Vec::new());
    let admitted = (0..10).filter(|_| gate.admit(&visitor, 0, 2).is_ok()).count();
    assert_eq!(admitted, 2);
    assert!(gate.admit(&visitor, 0, 1).is_ok(), "the other one is gone");
}
