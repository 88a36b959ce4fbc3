// Numbers to elements. Everything from the hub goes through textContent, so that no name of an agent or a model can
// become markup.

const TIERS = {
  "remote-api": "Remote API",
  "local-gpu": "Local GPU",
  "local-cpu": "Local CPU",
  fallback: "Second machine",
  edge: "Edge",
  unspecified: "None",
};

const whole = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const element = (id) => document.getElementById(id);

function setText(id, text) {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}

// Dollars to a useful number of digits; the exact amount goes into the title. The text keeps what a number would lose.
function dollars(text) {
  const amount = Number(text);
  if (amount === 0) return "$0.00";
  if (amount < 0.000001) return "< $0.000001";
  if (amount < 0.01) return `$${amount.toFixed(6).replace(/0+$/, "")}`;
  if (amount < 1) return `$${amount.toFixed(4)}`;
  return `$${amount.toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}

function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60000)} min ${Math.round((ms % 60000) / 1000)} s`;
}

function count(number) {
  return number < 100000 ? whole.format(number) : compact.format(number);
}

function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export function renderConnection(state, text) {
  const target = element("connection");
  target.dataset.state = state;
  setText("connection", text);
  document.body.classList.toggle("is-stale", state === "stale");
}

export function showSignIn(needed, refused) {
  element("sign-in").hidden = !needed;
  element("token-error").hidden = !refused;
  if (needed) element("token").focus();
}

export function renderSummary(summary) {
  const totals = summary.totals;
  setText("today-date", `${new Date(summary.from_unix_ms).toISOString().slice(0, 10)} UTC`);
  setText("requests", count(totals.requests));
  setText("attempts", plural(totals.attempts, "attempt", "attempts"));
  setText("cost", dollars(totals.cost_dollars));
  element("cost").title = `$${totals.cost_dollars}`;
  const perRequest = totals.requests === 0 ? 0 : Number(totals.cost_dollars) / totals.requests;
  setText("cost-per-request", totals.requests === 0 ? "" : `${dollars(String(perRequest))} a request`);
  setText("tokens-in", count(totals.tokens.input));
  setText("tokens-cached", totals.tokens.cached_input > 0 ? `${count(totals.tokens.cached_input)} from cache` : "");
  setText("tokens-out", count(totals.tokens.output));
  setText("tokens-reasoning", totals.tokens.reasoning > 0 ? `${count(totals.tokens.reasoning)} reasoning` : "");
  setText("failed", count(totals.failed));
  setText("cancelled", `${count(totals.cancelled)} cancelled`);
  element("failed-tile").classList.toggle("alert", totals.failed > 0);
  renderGroup("by-tier", summary.by_tier, (name) => TIERS[name] ?? name);
  renderGroup("by-provider", summary.by_provider, (name) => name || "none");
  renderGroup("by-model", summary.by_model, (name) => name || "none");
  renderGroup("by-agent", summary.by_agent, (name) => name || "no agent named");
  renderLedger(summary.ledger);
}

function renderLedger(ledger) {
  const role = element("role");
  role.hidden = ledger.role === "active";
  setText("role", ledger.role);
  const problems = [];
  if (ledger.missing_events > 0) problems.push(`${plural(ledger.missing_events, "usage event is", "usage events are")} missing`);
  if (ledger.dead_letters > 0) problems.push(`${plural(ledger.dead_letters, "event was", "events were")} refused (table dead_letter)`);
  const warning = element("warning");
  warning.hidden = problems.length === 0;
  setText("warning", problems.length === 0 ? "" : `The totals may be incomplete: ${problems.join(", ")}.`);
  setText(
    "ledger-state",
    ledger.last_commit_unix_ms
      ? `Last event ${new Date(ledger.last_commit_unix_ms).toLocaleString()}`
      : "No event since the hub started",
  );
}

const GROUP_ROWS = 8;

function renderGroup(id, groups, name) {
  const table = element(id);
  if (!table.tHead.firstChild) {
    const row = table.tHead.insertRow();
    for (const [text, number] of [["Name", false], ["Attempts", true], ["Tokens", true], ["Cost", true]]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = text;
      if (number) cell.className = "number";
      row.append(cell);
    }
  }
  const most = Math.max(1, ...groups.map((group) => group.attempts));
  const rows = groups.slice(0, GROUP_ROWS).map((group) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    const label = document.createElement("span");
    label.textContent = name(group.name);
    // A meter is a bar that a strict policy allows without inline style, and screen readers know what it is.
    const bar = document.createElement("meter");
    bar.max = most;
    bar.value = group.attempts;
    bar.setAttribute("aria-hidden", "true");
    head.append(label, bar);
    row.append(head);
    const attempts = cell(count(group.attempts), "number");
    if (group.failed > 0) {
      const failed = document.createElement("span");
      failed.className = "failed";
      failed.textContent = `${count(group.failed)} failed`;
      attempts.append(document.createElement("br"), failed);
    }
    row.append(attempts, cell(count(group.tokens.input + group.tokens.output), "number"));
    const cost = cell(dollars(group.cost_dollars), "number");
    cost.title = `$${group.cost_dollars}`;
    row.append(cost);
    return row;
  });
  if (groups.length > GROUP_ROWS) rows.push(wide(`and ${groups.length - GROUP_ROWS} more`));
  if (groups.length === 0) rows.push(wide("nothing yet"));
  table.tBodies[0].replaceChildren(...rows);
}

function cell(text, className) {
  const made = document.createElement("td");
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function wide(text) {
  const row = document.createElement("tr");
  const made = cell(text, "empty");
  made.colSpan = 4;
  row.append(made);
  return row;
}

export function renderRecent(recent, failedOnly) {
  const { duration_ms: took, time_to_first_token_ms: first } = recent.latency;
  setText("duration", duration(took.p50));
  setText("duration-tail", took.p95 === null ? "" : `95 % within ${duration(took.p95)}`);
  setText("first-token", duration(first.p50));
  setText("first-token-tail", first.p95 === null ? "" : `95 % within ${duration(first.p95)}`);
  const attempts = recent.attempts.filter((attempt) => !failedOnly || attempt.outcome !== "ok");
  element("recent").tBodies[0].replaceChildren(...attempts.map(attemptRow));
  element("recent").hidden = attempts.length === 0;
  const empty = element("recent-empty");
  empty.hidden = attempts.length > 0;
  if (failedOnly && recent.attempts.length > 0) empty.textContent = "Every one of the last attempts answered.";
}

function attemptRow(attempt) {
  const row = document.createElement("tr");
  const time = document.createElement("time");
  const finished = new Date(attempt.finished_unix_ms);
  time.dateTime = finished.toISOString();
  time.textContent = finished.toLocaleTimeString();
  time.title = `${finished.toLocaleString()}, request ${attempt.request_id}, attempt ${attempt.attempt}`;
  const when = cell("");
  when.append(time);

  const outcome = cell("");
  const mark = document.createElement("span");
  mark.className = `outcome ${attempt.outcome}`;
  mark.textContent = attempt.outcome;
  outcome.append(mark);
  if (attempt.error_code && attempt.error_code !== attempt.outcome) {
    const code = document.createElement("span");
    code.className = "code";
    code.textContent = attempt.error_code.replaceAll("_", " ");
    outcome.append(code);
  }

  const tokens = cell(`${count(attempt.tokens.input)} → ${count(attempt.tokens.output)}`, "number");
  if (attempt.estimated) tokens.title = "counted here, because the executor was cut off";
  const cost = cell(dollars(attempt.cost_dollars), "number");
  cost.title = `$${attempt.cost_dollars}`;
  const took = cell(duration(attempt.duration_ms), "number");
  if (attempt.time_to_first_token_ms > 0) took.title = `first token after ${duration(attempt.time_to_first_token_ms)}`;
  const model = cell(attempt.model || attempt.requested_model);
  model.title = [attempt.provider, attempt.deployment, attempt.executed_on].filter(Boolean).join(", ");
  row.append(
    when, outcome, cell(attempt.agent || attempt.method), cell(TIERS[attempt.tier] ?? attempt.tier), model,
    tokens, cost, took, cell(attempt.decision, "why"),
  );
  return row;
}
