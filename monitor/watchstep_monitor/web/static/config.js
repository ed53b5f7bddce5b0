// Settings of runs, and what differs between them.

import { el } from "./dom.js";
import { runLink, whole } from "./format.js";

/**
 * A table of settings: one column a run. Of several runs those that differ come first, and what is
 * the same in all of them is folded away. `more(run)` gives further rows, [[name, node or text]].
 */
export function settings(runs, more = () => []) {
  const columns = runs.map((run) => new Map(flat("", run.config)));
  const names = [...new Set(columns.flatMap((column) => [...column.keys()]))].sort();
  const differs = (name) => new Set(columns.map((column) => column.get(name))).size > 1;
  const rows = (chosen) => chosen.map((name) => [name, ...columns.map((column) => column.get(name))]);
  if (runs.length === 1) return names.length ? table(runs, rows(names)) : el("p", { class: "quiet" }, "The trainer sent no configuration.");
  const further = runs.map(more);
  const facts = further[0].map(([name], index) => [name, ...further.map((column) => column[index][1])]);
  const same = names.filter((name) => !differs(name));
  return [
    table(runs, [...facts, ...rows(names.filter(differs))]),
    same.length > 0 && el("details", {}, el("summary", {}, `${whole(same.length)} settings are the same`), table(runs, rows(same))),
  ];
}

function table(runs, rows) {
  const cell = (value) => el("td", {}, value === undefined ? el("span", { class: "quiet" }, "not set") : value);
  const head = el("tr", {}, el("td"), runs.map((run) => el("th", { scope: "col" }, runLink(run.run))));
  const line = ([name, ...values]) => el("tr", {}, el("th", { scope: "row" }, name), values.map(cell));
  return el("div", { class: "scroll" }, el("table", { class: "settings" },
    el("caption", { class: "visually-hidden" }, runs.length > 1 ? "What differs" : "Configuration"),
    runs.length > 1 && el("thead", {}, head),
    el("tbody", {}, rows.map(line)),
  ));
}

/** Nested settings by dotted names; what the hook says of the machine has a place of its own. */
function flat(prefix, value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [[prefix, typeof value === "string" ? value : JSON.stringify(value)]];
  return Object.entries(value).filter(([name]) => prefix || name !== "environment").flatMap(([name, each]) => flat(prefix ? `${prefix}.${name}` : name, each));
}

/** Where a run runs and from which code, [[name, text]]. */
export function surroundings(run) {
  const { host, user, python, command, gpus, packages, git_commit: commit, git_dirty: dirty } = run.config.environment || {};
  return [
    ["Host", run.host || host],
    ["User", run.user || user],
    ["GPUs", gpus?.join(", ")],
    ["Git commit", commit && `${commit.slice(0, 12)}${dirty ? ", with changes" : ""}`],
    ["Versions", [python && `Python ${python}`, ...Object.entries(packages || {}).map((pair) => pair.join(" "))].filter(Boolean).join(", ")],
    ["Command", command],
  ].filter(([, text]) => text);
}
