//! What an attempt that failed came to: nothing that a provider bills is left out.

use super::*;

/// Both of the price, for a million tokens: $1 and $4.
fn cost(input: u64, output: u64) -> i64 {
    i64::try_from(input * 1_000_000 + output * 4_000_000).unwrap()
}

fn spent(outcome: Result<v1::End, Fault>) -> Option<Spent> {
    outcome.unwrap_err().spent.map(|spent| *spent)
}

/// A stream that says `events` and then breaks off.
fn cut(events: &str) -> Vec<Act> {
    let mut bytes = stream_bytes(events.as_bytes());
    bytes.truncate(bytes.len() - 5);
    vec![Act::Send(bytes), Act::Close]
}

#[tokio::test]
async fn each_try_that_was_cut_off_counts() {
    let upstream = Upstream::start([cut("")]).await;
    let request = question(true);
    let (heard, outcome) = ask(&adapter(&upstream, NO_BREAKER), &request).await;
    let tries = upstream.seen().len() as u64;
    let spent = spent(outcome).unwrap();
    assert!(heard.is_empty() && tries > 1, "{tries} tries");
    let input = tries * request.input_tokens().get();
    assert_eq!((spent.usage.input.get(), spent.usage.output.get(), spent.usage.estimated), (input, 0, true));
    assert_eq!(spent.cost.as_picodollars(), cost(input, 0));
}

#[tokio::test]
async fn what_was_said_before_the_cut_is_counted_here() {
    let upstream =
        Upstream::start([cut("data: {\"choices\":[{\"delta\":{\"content\":\"12345678\"}}]}\n\n")]).await;
    let request = question(true);
    let (heard, outcome) = ask(&adapter(&upstream, ""), &request).await;
    let spent = spent(outcome).unwrap();
    assert_eq!((heard.as_str(), upstream.seen().len()), ("12345678", 1));
    let input = request.input_tokens().get();
    assert_eq!((spent.usage.input.get(), spent.usage.output.get(), spent.usage.estimated), (input, 2, true));
    assert_eq!(spent.cost.as_picodollars(), cost(input, 2));
}

#[tokio::test]
async fn an_error_that_counts_its_tokens_costs_them_once() {
    let error = r#"{"error":{"message":"overheated","code":"odd"},"usage":{"prompt_tokens":9,"completion_tokens":2}}"#;
    let events = format!("data: {error}\n\n");
    for (stream, answer) in
        [(false, json(200, "", error)), (true, vec![Act::Send(stream_bytes(events.as_bytes()))])]
    {
        let upstream = Upstream::start([answer]).await;
        let (_, outcome) = ask(&adapter(&upstream, &format!("{NO_BREAKER}\n")), &question(stream)).await;
        let tries = upstream.seen().len() as u64;
        let spent = spent(outcome).unwrap();
        let counts = (spent.usage.input.get(), spent.usage.output.get(), spent.usage.estimated);
        assert_eq!(counts, (9 * tries, 2 * tries, false), "{tries} tries");
        assert_eq!(spent.cost.as_picodollars(), cost(9 * tries, 2 * tries));
    }
}

#[tokio::test]
async fn what_was_refused_costs_nothing() {
    for status in [400, 401, 429, 500] {
        let upstream = Upstream::start([json(status, "", r#"{"error":{"message":"no"}}"#)]).await;
        let outcome = ask(&adapter(&upstream, NO_BREAKER), &question(true)).await.1;
        assert_eq!(spent(outcome), None, "{status}");
    }
}
