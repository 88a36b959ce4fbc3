// Connects to the hub and hands what comes to the renderer.
//
// The feed is read with fetch instead of EventSource, because a token travels in a header and EventSource sends none.

import { renderConnection, renderRecent, renderSummary, showSignIn } from "/render.js";

const STALE_AFTER_MS = 5000;
const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 10000;
const RECENT_EVERY_MS = 1000;

let token = sessionStorage.getItem("read-token") ?? "";
const openedAt = Date.now();
let lastEventAt = 0;
let signedOut = false;
let shownCommits = null;
let recentAskedAt = 0;
let failedOnly = false;
let latestAttempts = null;
let generation = 0;

function request(path, signal) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  return fetch(path, { headers, signal, cache: "no-store" });
}

class Unauthorized extends Error {}

// One `event:`/`data:` block of a server-sent event stream.
function* events(buffer) {
  for (const block of buffer) {
    const data = block
      .split("\n")
      .filter((line) => line.startsWith("data:"))
      .map((line) => line.slice(5).trimStart());
    if (data.length > 0) yield data.join("\n");
  }
}

async function follow(signal) {
  const response = await request("/api/live", signal);
  if (response.status === 401) throw new Unauthorized();
  if (!response.ok) throw new Error(`the hub answers ${response.status}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the hub closed the feed");
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const data of events(blocks)) take(JSON.parse(data));
  }
}

function take(event) {
  lastEventAt = Date.now();
  renderConnection("live", "Live");
  renderSummary(event.summary);
  if (event.commits !== shownCommits && Date.now() - recentAskedAt >= RECENT_EVERY_MS) {
    recentAskedAt = Date.now();
    const asked = event.commits;
    refreshRecent().then(() => { shownCommits = asked; }, () => {});
  }
}

async function refreshRecent() {
  const response = await request("/api/usage/recent?limit=50");
  if (!response.ok) throw new Error(`the hub answers ${response.status}`);
  latestAttempts = await response.json();
  renderRecent(latestAttempts, failedOnly);
}

async function run() {
  const mine = ++generation;
  let pause = RETRY_MIN_MS;
  while (mine === generation) {
    const started = Date.now();
    const controller = new AbortController();
    // A connection that is silent for long is dead whatever it says.
    const watchdog = setInterval(() => {
      if (Date.now() - Math.max(lastEventAt, started) > 3 * STALE_AFTER_MS) controller.abort();
    }, 1000);
    try {
      await follow(controller.signal);
    } catch (error) {
      if (error instanceof Unauthorized) {
        signedOut = true;
        renderConnection("stale", "Token needed");
        showSignIn(true, token !== "");
        clearInterval(watchdog);
        return;
      }
    }
    clearInterval(watchdog);
    if (lastEventAt >= started) pause = RETRY_MIN_MS;
    await new Promise((resume) => setTimeout(resume, pause * (0.75 + Math.random() / 2)));
    pause = Math.min(pause * 2, RETRY_MAX_MS);
  }
}

function tellWhenStale() {
  if (signedOut || Date.now() - Math.max(lastEventAt, openedAt) < STALE_AFTER_MS) return;
  const text = lastEventAt === 0
    ? "No answer from the hub, trying again"
    : `Stale: nothing new since ${new Date(lastEventAt).toLocaleTimeString()}, trying again`;
  renderConnection("stale", text);
}

document.getElementById("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.getElementById("token").value.trim();
  sessionStorage.setItem("read-token", token);
  signedOut = false;
  showSignIn(false, false);
  run();
});

document.getElementById("failed-only").addEventListener("change", (event) => {
  failedOnly = event.target.checked;
  if (latestAttempts) renderRecent(latestAttempts, failedOnly);
});

// A link sends no token; with one, the export is fetched and handed over as a file.
for (const id of ["csv", "jsonl"]) {
  document.getElementById(id).addEventListener("click", async (event) => {
    if (!token) return;
    event.preventDefault();
    const response = await request(event.target.getAttribute("href"));
    if (!response.ok) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = `usage.${id}`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

setInterval(tellWhenStale, 500);
run();
