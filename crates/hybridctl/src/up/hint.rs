//! How to ask, once everything is ready.

use wire::subject::{self, Method, Prefix};

use super::plan::Plan;
use super::ready::reachable;

const QUESTION: &str = "What is 2+2?";

/// Lines to print.
pub(super) fn lines(plan: &Plan) -> Vec<String> {
    let program = std::env::args().next().unwrap_or_else(|| "hybridctl".to_owned());
    let mut ways = vec![("ask", format!("{program} ask \"{QUESTION}\""))];
    if let Some(api) = plan.api {
        let api = reachable(api);
        ways.push((
            "HTTP",
            format!(
                "curl -N http://{api}/v1/chat/completions -H 'content-type: application/json' -d '{}'",
                serde_json::json!({
                    "model": "auto", "stream": true, "messages": [{"role": "user", "content": QUESTION}],
                })
            ),
        ));
        ways.push(("OpenAI SDK", format!("base_url=\"http://{api}/v1\"")));
    }
    ways.push(("Python", format!("python3 examples/ask.py \"{QUESTION}\"")));
    let prefix = Prefix::new(&plan.prefix).unwrap_or_default();
    ways.push(("NATS", format!("{} at {}", subject::ingress(&prefix, Method::Generate), plan.nats_url)));
    if let Some(page) = plan.page {
        ways.push(("page", format!("http://{}/", reachable(page))));
    }
    let mut lines = vec![String::new()];
    lines.extend(ways.iter().map(|(name, how)| format!("  {name:<12}{how}")));
    lines.extend(["  Ctrl-C stops everything.".to_owned(), String::new()]);
    lines
}
