//! How to ask, once everything is ready.

use std::path::PathBuf;

use wire::subject::{self, Method, Prefix};

use super::Options;
use super::plan::Plan;
use super::ready::reachable;

const QUESTION: &str = "What is 2+2?";
/// What clients take without being told.
const SERVER: &str = "nats://127.0.0.1:4222";

/// Lines to print.
pub(super) fn lines(plan: &Plan, options: &Options, config: Option<&PathBuf>) -> Vec<String> {
    let program = std::env::args().next().unwrap_or_else(|| "hybridctl".to_owned());
    let mut ways = vec![("ask", format!("{program} ask{} \"{QUESTION}\"", flags(plan, options, config)))];
    if let Some(api) = plan.api {
        let api = reachable(api);
        let key = if plan.keys { " -H \"authorization: Bearer $KEY\"" } else { "" };
        let body = serde_json::json!({
            "model": "auto", "stream": true, "messages": [{"role": "user", "content": QUESTION}],
        });
        ways.push((
            "HTTP",
            format!(
                "curl -N http://{api}/v1/chat/completions{key} -H 'content-type: application/json' -d '{body}'"
            ),
        ));
        ways.push(("OpenAI SDK", format!("base_url=\"http://{api}/v1\"")));
    }
    let server = if plan.nats_url == SERVER { String::new() } else { format!(" --server {}", plan.nats_url) };
    let key = if plan.keys { " --key \"$KEY\"" } else { "" };
    ways.push(("Python", format!("python3 examples/ask.py{server}{key} \"{QUESTION}\"")));
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

/// What another command needs to find this system.
fn flags(plan: &Plan, options: &Options, config: Option<&PathBuf>) -> String {
    let mut flags = String::new();
    if let Some(file) = config.filter(|file| file.as_os_str() != crate::target::CONFIG_FILE) {
        flags.push_str(&format!(" --config {}", file.display()));
    }
    if options.set.iter().any(|set| set.trim_start().starts_with("bus.url")) {
        flags.push_str(&format!(" --nats {}", plan.nats_url));
    }
    flags
}
