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
  const signs = new Map(); // The first alert of each attempt: how far what follows lies behind it.
  for (const entry of entries) {
    const fires = entry.kind === "transition" && entry.change === "firing";
    if (fires && !signs.has(entry.attempt)) signs.set(entry.attempt, entry);
  }
  return el(
    "ol",
    { class: "timeline", reversed: true },
    shown.map((entry) =>
      el(
        "li",
        {},
        el("time", { class: "quiet num", datetime: entry.at, title: entry.at, "data-fixed": "1" }, clock(entry.at)),
        el("span", { class: "quiet" }, `update ${whole(entry.seq)}`),
        el("div", { class: "what" }, what(entry), lead(entry, signs.get(entry.attempt))),
      ),
    ),
  );
}

/**
 * Repeated skips of one reason, and saves and pins with nothing else between them, are one entry: a
 * thousand of them would push everything else out of sight.
 */
function folded(entries) {
  const list = [];
  const open = new Map();
  for (const entry of entries) {
    const key = foldKey(entry);
    const before = key && open.get(key);
    const joins = before && (entry.event === "checkpoint" ? before === list.at(-1) : entry.seq - before.last.seq <= 1);
    if (joins) Object.assign(before, { last: entry, count: before.count + 1 });
    else {
      list.push({ ...entry, first: entry, last: entry, count: 1 });
      open.set(key, list.at(-1));
    }
  }
  return list;
}

function foldKey(entry) {
  if (entry.event === "checkpoint") return `${entry.attempt} checkpoint`;
  return entry.event === "guard" && entry.verdict === "skip" ? `${entry.attempt} ${entry.reason}` : null;
}

function lead(entry, sign) {
  if (!sign || entry.seq <= sign.seq || entry.count > 1 || !["event", "stage", "status"].includes(entry.kind)) return null;
  const seconds = (Date.parse(entry.at) - Date.parse(sign.at)) / 1000;
  return el("span", { class: "quiet" }, ` (${whole(entry.seq - sign.seq)} updates, ${span(seconds)} after the first sign)`);
}

function what(entry) {
  const kinds = {
    attempt: () => `Attempt ${entry.attempt} began`,
    transition: () => transition(entry),
    stage: () => ["Stage: ", el("strong", {}, entry.stage)],
    status: () => ["Status: ", el("strong", {}, entry.status ?? entry.to ?? "")],
    command: () => `Asked for by hand: ${entry.asks}${entry.reason ? ` (${entry.reason})` : ""}`,
    acknowledged: () => `${entry.rule} acknowledged by ${entry.by}`,
    answered: () => `${entry.rule} called ${entry.answer} by ${entry.by}`,
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
      return checkpoint(entry);
    case "guard":
      return [el("strong", {}, `Guard: ${entry.verdict}`), entry.reason && ` – ${entry.reason}`, entry.count > 1 && `, ${whole(entry.count)} steps up to update ${whole(entry.last.seq)}`];
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

function checkpoint({ count, first, last }) {
  const word = last.pinned ? "pinned" : "saved";
  if (count === 1) return [`Checkpoint ${word}: `, el("code", {}, last.path), ` (step ${whole(last.of_step)})`];
  return [`${whole(count)} checkpoints, steps ${whole(first.of_step)} to ${whole(last.of_step)}; the newest is ${word}: `, el("code", {}, last.path)];
}

/** How the newest attempt failed: the traceback's end and the last lines, where the trainer sent them. */
export function ending(run, entries) {
  const failure = entries.findLast((entry) => entry.event === "failed" && entry.attempt === run.attempt);
  if (!failure || !(failure.traceback || failure.last_lines?.length)) return null;
  const block = (title, text) => text && [el("h3", {}, title), el("pre", { tabindex: 0, role: "region", "aria-label": title }, text)];
  return el("section", { class: "panel row-gap", "aria-label": "How it ended" },
    el("h2", {}, "How it ended"),
    block("Traceback", failure.traceback),
    failure.last_lines?.length && searched("Last lines", failure.last_lines),
  );
}

/** Lines of a console, and a field that leaves only those which hold what is looked for. */
function searched(title, lines) {
  const shown = el("pre", { tabindex: 0, role: "region", "aria-label": title }, lines.join("\n"));
  const find = el("input", { type: "search", oninput: () => {
    const wanted = find.value.trim().toLowerCase();
    const those = lines.filter((line) => line.toLowerCase().includes(wanted));
    shown.textContent = those.join("\n") || "No line holds it.";
  } });
  requestAnimationFrame(() => (shown.scrollTop = shown.scrollHeight));
  return [el("h3", {}, title), el("div", { class: "controls" }, el("label", { class: "wide" }, "Find in the last lines", find)), shown];
}

/** Marks for the chart of a metric, by all of its names: its own alerts, and what concerns the whole run. */
export function marksOf(entries, names) {
  return entries.map((entry) => mark(entry, names)).filter(Boolean);
}

function mark(entry, names) {
  const at = (kind, text) => ({ kind, step: entry.step, time: Date.parse(entry.time ?? entry.at) / 1000, text });
  if (entry.kind === "attempt") return entry.attempt > 1 ? at("attempt", `attempt ${entry.attempt} began`) : null;
  if (entry.kind === "transition") {
    const mine = entry.change === "firing" && (!entry.metric || names.includes(entry.metric));
    return mine && entry.severity !== "info" ? at(entry.severity, `${entry.rule} fires`) : null;
  }
  if (entry.kind !== "event") return null;
  if (entry.event === "checkpoint" && entry.pinned) return at("checkpoint", `checkpoint pinned, step ${whole(entry.of_step)}`);
  if (entry.event === "guard" && entry.verdict === "skip") return at("skip", "optimizer step skipped");
  if (entry.event === "halted" || (entry.event === "guard" && entry.verdict === "halt")) return at("halt", "halted");
  return entry.event === "failed" ? at("failed", `failed: ${entry.error}`) : null;
}
