// Numbers, times and words, as people read them.

import { el } from "./dom.js";

const WORDS = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };
export const ZONES = ["ok", "info", "warning", "critical"];

/** A reading of the API as a number; words stand for what JSON cannot hold. */
export function reading(value) {
  return typeof value === "string" ? WORDS[value] : value;
}

/** Four significant digits; what is not finite by its name. */
export function number(value) {
  const x = reading(value);
  if (x === null || x === undefined) return "none";
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "+Inf" : "-Inf";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-3) return x.toExponential(2).replace("e+", "e");
  return String(Number(x.toPrecision(4)));
}

/** A sentence with a capital; the name of a metric at its beginning stays as it was logged. */
export function sentence(text) {
  return /^[a-z]+( |$)/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
}

/** The number of an axis's tick, short, with enough digits to tell it from one that lies `apart`. */
export function tick(value, apart = 0) {
  const size = Math.abs(value);
  const digits = apart > 0 ? Math.min(Math.max(4, Math.ceil(Math.log10(size / apart)) + 1), 12) : 4;
  const short = (x) => String(Number(x.toPrecision(digits)));
  if (size < 1e-12) return "0";
  if (size >= 1e15 || size < 1e-4) return value.toExponential(0).replace("e+", "e");
  const [unit, letter] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]].find(([least]) => size >= least) || [1, ""];
  return `${short(value / unit)}${letter}`;
}

/** A whole number with groups: 12,345. */
export function whole(value) {
  return value === null || value === undefined ? "none" : value.toLocaleString("en-US");
}

/** Steps a second. */
export function speed(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 100) return `${whole(Math.round(value))}/s`;
  if (value >= 1) return `${value.toFixed(1)}/s`;
  return `${number(value * 60)}/min`;
}

/** How long ago, in one unit. */
export function ago(moment, now = Date.now()) {
  if (!moment) return "never";
  const seconds = Math.max(0, (now - Date.parse(moment)) / 1000);
  return seconds < 3 ? "now" : `${span(seconds)} ago`;
}

/** A length of time, in one unit. */
export function span(seconds) {
  const size = Math.abs(seconds);
  if (size < 90) return `${Math.round(seconds)} s`;
  if (size < 5400) return `${Math.round(seconds / 60)} min`;
  if (size < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** A moment as a `time` element: how long ago, the exact one on hover. */
export function when(moment) {
  if (!moment) return el("span", { class: "quiet" }, "never");
  return el("time", { datetime: moment, title: new Date(moment).toLocaleString() }, ago(moment));
}

/** Hours, minutes and seconds, and the day unless it is today. */
export function clock(moment) {
  const at = new Date(moment);
  const time = at.toLocaleTimeString("en-GB");
  const today = at.toDateString() === new Date().toDateString();
  return today ? time : `${at.toISOString().slice(0, 10)} ${time}`;
}

const STATUS_MARKS = {
  running: "●",
  finished: "✓",
  halted: "■",
  preempted: "⏏",
  stalled: "◌",
  lost: "◌",
  failed: "✕",
  healthy: "✓",
  suspicious: "◆",
  exploded: "▲",
  diverged: "▲",
  unjudged: "·",
};

/** A run's status: a sign, a colour and the word, so that no one depends on one of them. */
export function status(word) {
  return el(
    "span",
    { class: `pill status-${word}` },
    el("span", { "aria-hidden": "true" }, STATUS_MARKS[word] || "·"),
    word,
  );
}

/** A metric's name that may break after its parts, and not within a word. */
export function metricName(name) {
  return el("code", {}, name.split(/(?<=[/_.])/).flatMap((part) => [part, el("wbr")]));
}

/** A severity, or a zone. */
export function level(word, prefix = "level") {
  return el("span", { class: `pill ${prefix}-${word}` }, word);
}

export function zone(word) {
  return level(word, "zone");
}

/** The page of a run. */
export function runPath(run) {
  return `/runs/${encodeURIComponent(run)}`;
}

export function runLink(run) {
  return el("a", { href: runPath(run), class: "run-link" }, run);
}

/** A web address that a rule file gave, as a link only where it is one. */
export function outside(address, text) {
  const safe = /^https?:\/\//i.test(address || "");
  return safe ? el("a", { href: address, rel: "noreferrer noopener", target: "_blank" }, text) : address;
}
