use serde_json::json;

use super::*;

fn group(attempts: i64, cost: i64) -> serde_json::Value {
    json!({
        "attempts": attempts, "ok": attempts, "failed": 0, "cancelled": 0,
        "tokens": {"input": 10, "output": 5, "cached_input": 0, "cache_write": 0, "reasoning": 0},
        "cost_unknown": 0, "cost_picodollars": cost, "cost_dollars": "0", "duration_ms": 7,
    })
}

fn named(name: &str, attempts: i64, cost: i64) -> serde_json::Value {
    let mut group = group(attempts, cost);
    group["name"] = json!(name);
    group
}

#[test]
fn a_summary_ends_with_the_totals_and_says_what_is_missing() {
    let mut totals = group(3, 37_500);
    totals["requests"] = json!(2);
    let summary: Summary = serde_json::from_value(json!({
        "from_unix_ms": 0, "to_unix_ms": 86_400_000, "totals": totals,
        "by_tier": [named("local-cpu", 2, 0), named("remote-api", 1, 37_500)],
        "by_provider": [], "by_model": [], "by_agent": [named("", 3, 37_500)], "by_key": [], "by_day": [],
        "reference": {"model": "openai/gpt-4o", "cost_picodollars": 100_000_000_000_i64, "cost_dollars": "0.1",
                      "actual_picodollars": 12_000_000_000_i64, "saved_picodollars": 88_000_000_000_i64, "saved_dollars": "0.088"},
        "energy": {"millijoules": 7_200_000, "estimated_millijoules": 3_600, "cost_picodollars": 600_000_000_000_i64,
            "cost_dollars": "0.60", "per_kwh_dollars": "0.30", "by_tier": {"local-cpu": 7_200_000}},
        "ledger": {"role": "active", "missing_events": 4, "dead_letters": 0, "last_commit_unix_ms": null},
    }))
    .unwrap();
    let lines = summary_lines(summary, By::Tier);
    assert!(lines.iter().any(|line| line.starts_with("remote-api") && line.ends_with("$0.0000000375")));
    assert!(lines.iter().any(|line| line.starts_with("all ")), "{lines:#?}");
    assert!(lines.contains(&"2 requests from 1970-01-01 00:00 to 1970-01-02 00:00".to_owned()), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("misses 4 events")), "{lines:#?}");
    let electricity =
        "electricity of local requests: 2.000 Wh, 0.001 of them estimated, $0.60 at $0.30 a kWh";
    assert!(lines.contains(&electricity.to_owned()), "{lines:#?}");
    let saved =
        "all text from openai/gpt-4o would have cost $0.10; here it cost $0.012: $0.088 (88.0 %) saved";
    assert!(lines.iter().any(|line| line == saved), "{lines:#?}");
}

#[test]
fn a_request_shows_each_attempt_with_its_end() {
    let attempt = |number: u32, outcome: &str, error: &str| {
        json!({
            "attempt": number, "outcome": outcome, "error_code": error, "deployment": "mainpc/openai/gpt",
            "tier": "remote-api", "tokens": {"input": 9, "output": 3}, "cost_picodollars": 0,
            "time_to_first_token_ms": 1, "duration_ms": 2, "decision": "heavy (R1)",
            "energy_millijoules": 1_250, "energy_estimated": true,
        })
    };
    let request: Request = serde_json::from_value(json!({
        "request_id": "r", "cost_picodollars": 37_500, "cost_dollars": "0.0000000375",
        "attempts": [attempt(1, "failed", "upstream"), attempt(2, "ok", "unspecified")],
    }))
    .unwrap();
    let lines = request_lines(request);
    assert!(lines.iter().any(|line| line.contains("failed: upstream")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with("~1.250 J")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("  ok ") && !line.contains("unspecified")), "{lines:#?}");
    assert!(lines.contains(&"$0.0000000375 in all".to_owned()) && lines.contains(&"heavy (R1)".to_owned()));
}
