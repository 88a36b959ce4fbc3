use super::*;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn key() -> Key {
    Key {
        id: KeyId::new("ci").unwrap(),
        machine: node("mainpc"),
        sha256: Some([7; 32]),
        expires_unix_ms: None,
        disabled: false,
        limits: Limits::default(),
        spending: Spending {
            per_day: None,
            per_month: None,
            when_spent: WhenSpent::Reject,
            parts: Vec::new(),
        },
        allowed: Allowed::default(),
    }
}

#[test]
fn a_key_is_of_use_until_it_is_disabled_expired_or_revoked() {
    let until = Key { expires_unix_ms: Some(10), ..key() };
    assert!(key().usable(u64::MAX).is_ok() && until.usable(9).is_ok());
    for (key, why) in [
        (until, "has expired"),
        (Key { disabled: true, ..key() }, "is disabled"),
        (Key { sha256: None, ..key() }, "is revoked"),
    ] {
        let fault = key.usable(10).unwrap_err();
        assert_eq!((fault.code, fault.message), (Code::Unauthenticated, format!("key ci {why}")));
    }
}

#[test]
fn the_parts_of_all_coordinators_are_the_limit_and_none_is_nothing() {
    let limits =
        Limits { requests_per_minute: Some(60), tokens_per_minute: Some(1_001), concurrency: Some(1) };
    let half = Limits { requests_per_minute: Some(30), tokens_per_minute: Some(501), concurrency: Some(1) };
    assert_eq!(limits.share(2), half);
    assert_eq!(limits.share(0), limits, "nobody counts as one");
    assert_eq!(Limits::default().share(3), Limits::default());
}

#[test]
fn the_money_of_a_key_is_where_it_is_kept_unless_parts_say_otherwise() {
    let day = Spending { per_day: Some(Money::picodollars(1_000)), ..key().spending };
    let kept = Key { spending: day.clone(), ..key() };
    let allowed = |key: &Key, machine: &str| {
        let budgets = key.budgets(&node(machine));
        (budgets[0].name.clone(), budgets[0].allowed().as_picodollars())
    };
    assert_eq!(allowed(&kept, "mainpc"), ("key:ci:day".to_owned(), 1_000));
    assert_eq!(allowed(&kept, "pc2").1, 0);
    let parts = vec![(node("mainpc"), Share::millionths(250_000)), (node("pc2"), Share::millionths(750_000))];
    let shared = Key { spending: Spending { parts, ..day }, ..key() };
    assert_eq!((allowed(&shared, "mainpc").1, allowed(&shared, "pc2").1), (250, 750));
    assert!(key().budgets(&node("mainpc")).is_empty() && !key().has_budget());
    assert_eq!(shared.budgets(&node("other"))[0].scope, Scope::Key("ci".to_owned()));
}

#[test]
fn a_key_for_agents_is_for_no_one_else() {
    let planner = AgentName::new("Planner").unwrap();
    let key = Key { allowed: Allowed { agents: vec![planner.clone()], ..Allowed::default() }, ..key() };
    assert!(key.permits_agent(Some(&planner)).is_ok());
    for other in [None, Some(AgentName::new("CodeGenerator").unwrap())] {
        let fault = key.permits_agent(other.as_ref()).unwrap_err();
        assert_eq!((fault.code, fault.field.as_str()), (Code::PermissionDenied, "agent"));
    }
}
