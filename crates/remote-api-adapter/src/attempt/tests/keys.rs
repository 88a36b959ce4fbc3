//! Several keys of one provider.

use super::*;

/// Files with keys, and the setting that names them.
struct Files {
    folder: tempfile::TempDir,
    setting: String,
}

/// One key for each text: what is said of it beside its file.
fn keys(more: &[&str]) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let entry = |(index, more): (usize, &&str)| {
        let path = folder.path().join(format!("key-{index}"));
        std::fs::write(&path, format!("canary-{index}")).unwrap();
        format!("{{ file = {path:?}{more} }}")
    };
    let entries: Vec<String> = more.iter().enumerate().map(entry).collect();
    let setting = format!("api_keys = [{}]", entries.join(", "));
    Files { folder, setting }
}

/// Which keys were shown, in order.
fn shown(upstream: &Upstream) -> Vec<usize> {
    let key = |seen: upstream::Seen| {
        let (_, rest) = seen.head.split_once("authorization: bearer canary-").unwrap();
        rest.split("\r\n").next().unwrap().parse().unwrap()
    };
    upstream.seen().into_iter().map(key).collect()
}

async fn fine(adapter: &Adapter) -> v1::End {
    ask(adapter, &question(true)).await.1.unwrap()
}

#[tokio::test]
async fn free_keys_go_first_cost_nothing_and_the_paid_ones_take_turns_after_them() {
    let upstream = Upstream::start([streamed()]).await;
    let files = keys(&["", ", requests_per_minute = 2, free = true", ""]);
    let adapter = adapter(&upstream, &files.setting);
    let mut costs = Vec::new();
    for _ in 0..6 {
        costs.push(fine(&adapter).await.cost_picodollars);
    }
    let order = shown(&upstream);
    assert_eq!(order[..2], [1, 1]);
    assert!(order[2..] == [2, 0, 2, 0] || order[2..] == [0, 2, 0, 2], "{order:?}");
    assert_eq!(costs, [0, 0, COST, COST, COST, COST]);
}

#[tokio::test]
async fn a_cancelled_call_with_a_free_key_costs_nothing_either() {
    let upstream = Upstream::start([vec![Act::Hang]]).await;
    let files = keys(&[", free = true"]);
    let adapter = adapter(&upstream, &files.setting);
    let (request, cancel) = (question(true), CancellationToken::new());
    let deadline = Instant::now() + Duration::from_secs(60);
    let order = Order { deployment: DEPLOYMENT, request: &request, deadline, cancel: &cancel };
    let heard = Heard::default();
    let (end, ()) = tokio::join!(adapter.run(order, &heard), async {
        while upstream.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    });
    let end = end.unwrap();
    assert!(end.usage.unwrap().input > 0);
    assert_eq!(end.cost_picodollars, 0);
}

#[tokio::test]
async fn a_key_that_is_refused_is_replaced_by_the_next_one_at_once_and_rests() {
    let cases = [
        json(429, "retry-after: 60\r\n", "{}"),
        json(401, "", r#"{"error":{"message":"no"}}"#),
        json(403, "", r#"{"error":{"message":"no"}}"#),
        json(402, "", r#"{"error":{"message":"pay"}}"#),
        json(429, "", r#"{"error":{"code":"insufficient_quota"}}"#),
        json(400, "", r#"{"error":{"message":"Your credit balance is too low"}}"#),
    ];
    for refusal in cases {
        let upstream = Upstream::start([refusal.clone(), streamed()]).await;
        let files = keys(&["", ""]);
        let adapter = adapter(&upstream, &files.setting);
        let began = Instant::now();
        for _ in 0..4 {
            fine(&adapter).await;
        }
        assert_eq!(shown(&upstream), [0, 1, 1, 1, 1], "{refusal:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{refusal:?}: {:?}", began.elapsed());
        assert_eq!(adapter.routes.registered()[0].state(), v1::DeploymentState::Warm, "{refusal:?}");
    }
}

#[tokio::test]
async fn a_refusal_of_one_key_that_cannot_be_retried_does_not_cool_the_deployment() {
    let upstream = Upstream::start([json(401, "", "{}"), streamed()]).await;
    let files = keys(&["", ""]);
    let toml = settings(&format!("http://{}/v1", upstream.address), &files.setting)
        .replace("retry = {", "retry = { retries_max = 0,");
    let fault = ask(&adapter_of(&toml), &question(true)).await.1.unwrap_err();
    assert_eq!(fault.code, Code::UpstreamAuth);
    assert!(fault.retry_after.is_some_and(|wait| wait <= Duration::from_millis(1)), "{fault:?}");
}

#[tokio::test]
async fn with_no_key_left_the_fault_says_when_the_next_one_frees() {
    let upstream = Upstream::start([streamed()]).await;
    let files = keys(&[", requests_per_minute = 1", ", requests_per_minute = 1"]);
    let adapter = adapter(&upstream, &files.setting);
    fine(&adapter).await;
    fine(&adapter).await;
    let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
    assert_eq!((fault.code, fault.retryable), (Code::RateLimited, true), "{fault}");
    let wait = fault.retry_after.unwrap();
    assert!(wait > Duration::from_secs(55) && wait <= Duration::from_secs(61), "{wait:?}");
    assert_eq!(upstream.seen().len(), 2);
    let registered = &adapter.routes.registered()[0];
    assert_eq!(registered.state(), v1::DeploymentState::Down);
    assert!(registered.state_detail.contains("rate limit"), "{}", registered.state_detail);
}

#[tokio::test]
async fn a_limit_of_tokens_is_settled_with_what_was_used() {
    // an answer of 25 tokens; the question is estimated at 9 and room for 512 more
    let upstream = Upstream::start([streamed()]).await;
    let files = keys(&[", tokens_per_minute = 600"]);
    let adapter = adapter(&upstream, &files.setting);
    for _ in 0..4 {
        fine(&adapter).await;
    }
    let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
    assert_eq!(
        (fault.code, upstream.seen().len()),
        (Code::RateLimited, 4),
        "4 × 25 and one estimate are more than 600"
    );
}

#[tokio::test]
async fn a_rate_limit_with_a_time_in_either_form_rests_that_key_for_that_model_only() {
    let at = |seconds: u64| httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(seconds));
    let date = at(Clock::system().now_unix_ms() / 1_000 + 60);
    for after in ["60".to_owned(), date] {
        let upstream =
            Upstream::start([json(429, &format!("retry-after: {after}\r\n"), "{}"), streamed()]).await;
        let files = keys(&[""]);
        let second = "[[providers.deployments]]\nmodel = \"small\"\ncontext_length = 1000\ncapabilities = [\"generate\"]\nfree = true\n";
        let toml = settings(&format!("http://{}/v1", upstream.address), &files.setting) + second;
        let adapter = adapter_of(&toml);
        for _ in 0..3 {
            let fault = ask(&adapter, &question(true)).await.1.unwrap_err();
            assert_eq!(fault.code, Code::RateLimited, "{after}");
            assert!(
                fault.retry_after.is_some_and(|wait| wait > Duration::from_secs(55)),
                "{after}: {fault:?}"
            );
        }
        assert_eq!(upstream.seen().len(), 1, "{after}");
        let (request, cancel) = (question(true), CancellationToken::new());
        let deadline = Instant::now() + Duration::from_secs(60);
        let order = Order { deployment: "mainpc/acme/small", request: &request, deadline, cancel: &cancel };
        assert!(adapter.run(order, &Heard::default()).await.is_ok(), "another model is not meant");
    }
}

#[tokio::test]
async fn what_the_headers_say_is_left_is_kept_to() {
    let stream = String::from_utf8(stream_bytes(STREAM)).unwrap();
    let spent = "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1m0s\r\n\r\n";
    let last = vec![Act::Send(stream.replacen("\r\n\r\n", &format!("\r\n{spent}"), 1).into_bytes())];
    let upstream = Upstream::start([last, streamed()]).await;
    let files = keys(&["", ""]);
    let adapter = adapter(&upstream, &files.setting);
    for _ in 0..4 {
        fine(&adapter).await;
    }
    assert_eq!(shown(&upstream), [0, 1, 1, 1]);
}

#[tokio::test]
async fn a_key_that_is_missing_is_passed_over_until_it_is_there() {
    let upstream = Upstream::start([streamed()]).await;
    let files = keys(&["", ""]);
    std::fs::remove_file(files.folder.path().join("key-0")).unwrap();
    let adapter = adapter(&upstream, &files.setting);
    fine(&adapter).await;
    fine(&adapter).await;
    assert_eq!(adapter.routes.registered()[0].state(), v1::DeploymentState::Warm);
    std::fs::write(files.folder.path().join("key-0"), "canary-0").unwrap();
    fine(&adapter).await;
    fine(&adapter).await;
    let order = shown(&upstream);
    assert_eq!(order[..2], [1, 1]);
    assert!(order[2..].contains(&0), "{order:?}");
}

#[tokio::test]
async fn a_callers_own_mistake_rests_no_key() {
    let upstream = Upstream::start([json(400, "", r#"{"error":{"message":"bad"}}"#)]).await;
    let files = keys(&["", ""]);
    let adapter = adapter(&upstream, &files.setting);
    for _ in 0..4 {
        assert_eq!(ask(&adapter, &question(true)).await.1.unwrap_err().code, Code::InvalidArgument);
    }
    assert_eq!(shown(&upstream), [0, 1, 0, 1], "tried once each, with either key");
}
