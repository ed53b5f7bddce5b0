// What happened to a run, in words and as marks on charts.

import { el } from "./dom.js";
import { clock, level, number, span, whole } from "./format.js";

const MOST_SHOWN = 300;

/** An entry with the fields of its event beside its own; `event` is then the event's kind. */
export function unfolded(entry) {
  const { kind, step, ...fields } = entry.event || {};
  return entry.kind === "event" ? { ...fields, ...entry, event: kind, of_step: step ?? entry.step } : entry;
}

/** The list, newest first; entries as `unfolded` gives them. */
export function timelineList(entries) {
  if (entries.length === 0) return el("p", { class: "quiet" }, "Nothing yet.");
  const shown = folded(entries).slice(-MOST_SHOWN).reverse();
  return el(
    "ol",
    { class: "timeline", reversed: true },
    shown.map((entry) =>
      el(
        "li",
        {},
        el("time", { class: "quiet num", datetime: entry.at, title: entry.at, "data-fixed": "1" }, clock(entry.at)),
        el("span", { class: "quiet" }, `update ${whole(entry.seq)}`),
        el("div", { class: "what" }, what(entry), lead(entry)),
      ),
    ),
  );
}

/** Steps that were skipped one after the other for one reason are one entry: a thousand of them
 * would push everything else out of sight. */
function folded(entries) {
  const found = [];
  const open = new Map();
  for (const entry of entries) {
    const skip = entry.event === "guard" && entry.verdict === "skip";
    const key = skip && `${entry.attempt} ${entry.reason}`;
    const before = skip && open.get(key);
    if (before && entry.seq - before.until <= 1) before.until = entry.seq;
    else if (skip) {
      const first = { ...entry, until: entry.seq };
      open.set(key, first);
      found.push(first);
    } else found.push(entry);
  }
  return found;
}

function lead(entry) {
  const since = entry.since_first_sign;
  if (!since || since.updates <= 0 || !["event", "stage", "status"].includes(entry.kind)) return null;
  return el("span", { class: "quiet" }, ` (${whole(since.updates)} updates, ${span(since.seconds)} after the first sign)`);
}

function what(entry) {
  const kinds = {
    attempt: () => `Attempt ${entry.attempt} began`,
    transition: () => transition(entry),
    stage: () => ["Stage: ", el("strong", {}, entry.stage)],
    status: () => ["Status: ", el("strong", {}, entry.status ?? entry.to ?? "")],
    command: () => `Asked for by hand: ${entry.asks}${entry.reason ? ` (${entry.reason})` : ""}`,
    acknowledged: () => `${entry.rule} acknowledged by ${entry.by}`,
    delivery: () => `${entry.receiver}: ${entry.state ?? entry.edge ?? ""}`,
    event: () => event(entry),
  };
  return (kinds[entry.kind] || (() => entry.kind))();
}

function transition(entry) {
  const reason = entry.reason || (entry.metric ? `${entry.metric} = ${number(entry.reading)}` : "");
  return [el("strong", {}, entry.rule), ` ${entry.change} `, entry.change === "firing" && level(entry.severity), reason && el("div", { class: "under" }, el("code", {}, reason))];
}

function event(entry) {
  switch (entry.event) {
    case "checkpoint":
      return [entry.pinned ? "Checkpoint pinned: " : "Checkpoint: ", el("code", {}, entry.path), ` (step ${whole(entry.of_step)})`];
    case "guard":
      return [el("strong", {}, `Guard: ${entry.verdict}`), entry.reason && ` – ${entry.reason}`, entry.until > entry.seq && `, and every step up to update ${whole(entry.until)}`];
    case "log":
      return [el("span", { class: "tag" }, entry.level || "log"), " ", entry.text];
    case "failed":
      return [el("strong", {}, "The trainer failed: "), entry.error];
    case "command":
      return `The trainer answered: ${entry.asks ?? entry.command ?? "done"}`;
    default:
      return `The trainer ${entry.event}`;
  }
}

/** Marks for the chart of a metric: its own alerts, and what concerns the whole run. */
export function marksOf(entries, metric) {
  return entries.map((entry) => mark(entry, metric)).filter(Boolean);
}

function mark(entry, metric) {
  const at = (kind, text) => ({ kind, step: entry.step, text });
  if (entry.kind === "attempt") return entry.attempt > 1 ? at("attempt", `attempt ${entry.attempt} began`) : null;
  if (entry.kind === "transition") {
    const mine = entry.change === "firing" && (entry.metric === metric || !entry.metric);
    return mine && entry.severity !== "info" ? at(entry.severity, `${entry.rule} fires`) : null;
  }
  if (entry.kind !== "event") return null;
  if (entry.event === "checkpoint" && entry.pinned) return at("checkpoint", `checkpoint pinned, step ${whole(entry.of_step)}`);
  if (entry.event === "guard" && entry.verdict === "skip") return at("skip", "optimizer step skipped");
  if (entry.event === "halted" || (entry.event === "guard" && entry.verdict === "halt")) return at("halt", "halted");
  return entry.event === "failed" ? at("failed", `failed: ${entry.error}`) : null;
}
