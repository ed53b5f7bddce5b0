// The stream of events. Read by fetch and not by EventSource, which does not tell why it was refused.

import { newToken } from "./api.js";

const listeners = new Set();
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10000;
const SILENCE_MS = 40000; // The service says something every 15 s; after this it is not there.
let lastId = null;
let started = false;

/** Be told of events: `listener(kind, event)`; kind "again" after the stream was cut. */
export function listen(listener) {
  listeners.add(listener);
  if (!started) {
    started = true;
    run();
  }
}

function spread(kind, event) {
  for (const listener of listeners) listener(kind, event);
}

async function run() {
  let wait = FIRST_WAIT_MS;
  let cut = false;
  for (;;) {
    await seen();
    try {
      await follow(() => {
        show("live", "Live");
        wait = FIRST_WAIT_MS;
        if (cut) spread("again", {});
        cut = false;
      });
    } catch (error) {
      if (error.needsToken) {
        await newToken();
        continue;
      }
    }
    cut = true;
    show("cut", "Reconnecting");
    if (document.hidden && !stays) continue;
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

let stays = false;

/** Keep the stream while the tab is out of sight too. */
export function stay() {
  stays = true;
}

/** Resolves once the tab is in sight: a browser keeps six connections a host, and each stream
 * holds one, so that a seventh tab would wait for ever. */
function seen() {
  return new Promise((resolve) => {
    if (!document.hidden || stays) return resolve();
    return document.addEventListener("visibilitychange", () => resolve(seen()), { once: true });
  });
}

async function follow(opened) {
  const headers = { Accept: "text/event-stream" };
  if (lastId !== null) headers["Last-Event-ID"] = lastId;
  const giveUp = new AbortController();
  const hide = () => document.hidden && !stays && giveUp.abort();
  document.addEventListener("visibilitychange", hide, { signal: giveUp.signal });
  const answer = await fetch("/api/v1/events", { headers, cache: "no-store", signal: giveUp.signal });
  if (answer.status === 401) throw Object.assign(new Error("token"), { needsToken: true });
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  opened();
  const texts = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const quiet = setTimeout(() => giveUp.abort(), SILENCE_MS);
    const { done, value } = await texts.read();
    clearTimeout(quiet);
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    parts.forEach(take);
  }
}

function take(text) {
  let kind = "message";
  let body = "";
  for (const line of text.split("\n")) {
    if (line.startsWith("id: ")) lastId = line.slice(4);
    else if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("data: ")) body += line.slice(6);
  }
  if (body) spread(kind, JSON.parse(body));
}

function show(state, word) {
  const place = document.getElementById("live");
  if (place.dataset.state === state) return;
  place.dataset.state = state;
  place.querySelector(".live-word").textContent = word;
}

/** A function that calls `work` at most once in `ms`, and always after the last call. */
export function calm(work, ms) {
  let timer = null;
  let last = 0;
  return () => {
    if (timer !== null) return;
    const due = Math.max(0, last + ms - Date.now());
    timer = setTimeout(() => {
      timer = null;
      last = Date.now();
      work();
    }, due);
  };
}
