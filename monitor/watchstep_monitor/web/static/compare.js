// Two runs side by side: what differs in their settings, and their metrics in one chart each.

import { get } from "./api.js";
import { Charts } from "./charts.js";
import { el, fill, trouble } from "./dom.js";
import { number, runLink, status, whole, zone, ZONES } from "./format.js";

export async function show(place) {
  const given = new URLSearchParams(location.search);
  const names = el("datalist", { id: "run-names" });
  const first = picker("First run", "a", given.get("a"));
  const second = picker("Second run", "b", given.get("b"));
  const result = el("div", { class: "row-gap" });
  const form = el("form", { class: "controls", onsubmit: (event) => {
    event.preventDefault();
    compare();
  } }, first.node, second.node, el("button", { type: "submit", class: "primary" }, "Compare"), names);
  fill(place, el("h1", {}, "Compare two runs"), form, result);
  for (const one of [first, second]) one.input.addEventListener("input", () => suggest(names, one.input.value));

  async function compare() {
    const [a, b] = [first.input.value.trim(), second.input.value.trim()];
    if (!a || !b) return fill(result, el("p", { class: "quiet" }, "Choose two runs: their settings and metrics are laid side by side."));
    history.replaceState(null, "", `?${new URLSearchParams({ a, b })}`);
    try {
      const runs = await Promise.all([a, b].map((run) => get(`/api/v1/runs/${encodeURIComponent(run)}`)));
      const scales = await get(`/page/runs/${encodeURIComponent(a)}/scales`);
      return draw(result, runs, scales);
    } catch (error) {
      return fill(result, trouble(error, compare));
    }
  }

  await suggest(names, "");
  await compare();
}

function picker(label, name, value) {
  const input = el("input", { name, list: "run-names", value: value || "", autocomplete: "off", required: true });
  return { input, node: el("label", { class: "wide" }, label, input) };
}

async function suggest(names, text) {
  const found = await get("/page/runs", { q: text, sort: "heard", size: 50 });
  fill(names, found.items.map((item) => el("option", { value: item.run })));
}

function draw(place, [a, b], scales) {
  const sources = [
    { run: a.run, label: a.run, colour: "trace" },
    { run: b.run, label: b.run, colour: "trace-2", dash: [6, 3] },
  ];
  const shared = Object.keys(a.readings).filter((name) => name in b.readings);
  const about = (metric) => ({ scale: scales[metric] || { zones: [], thresholds: [] }, marks: [], zone: undefined });
  const charts = new Charts(sources, about, () => Math.max(a.step, b.step));
  fill(place, differences(a, b), shared.length ? [el("h2", {}, "Metrics of both"), charts.node] : el("p", { class: "quiet" }, "They report no metric in common."));
  charts.order(shared.sort((x, y) => worst(y, a, b) - worst(x, a, b) || x.localeCompare(y)));
}

function worst(name, a, b) {
  return Math.max(...[a, b].map((run) => ZONES.indexOf(run.readings[name].zone || "ok")));
}

function differences(a, b) {
  const rows = [
    ["Status", status(a.status), status(b.status)],
      ["Health", status(a.health), status(b.health)],
    ["Step", whole(a.step), whole(b.step)],
    ["Alerts firing", whole(a.counts.firing), whole(b.counts.firing)],
    ["Incident", a.incident ? a.incident.stage : "none", b.incident ? b.incident.stage : "none"],
    ...changed("", { project: a.project, trainer: a.trainer }, { project: b.project, trainer: b.trainer }),
    ...changed("tag ", a.tags, b.tags),
    ...changed("config ", a.config, b.config),
  ];
  const latest = Object.keys({ ...a.readings, ...b.readings }).filter((name) => bad(a.readings[name]) || bad(b.readings[name]));
  const cell = (one) => (one ? [number(one.value), " ", one.zone && zone(one.zone)] : "none");
  const line = ([name, left, right]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, left), el("td", {}, right));
  return el(
    "div",
    { class: "panel table scroll" },
    el("table", {}, el("caption", { class: "visually-hidden" }, "What differs"), el("thead", {}, el("tr", {}, el("td"), el("th", { scope: "col" }, runLink(a.run)), el("th", { scope: "col" }, runLink(b.run)))), el("tbody", {}, rows.map(line), latest.map((name) => line([el("code", {}, name), cell(a.readings[name]), cell(b.readings[name])])))),
  );
}

function bad(one) {
  return one && one.zone && !["ok", "info"].includes(one.zone);
}

/** Settings that are not the same; equal ones would only hide them. */
function changed(prefix, left, right) {
  const text = (value) => (value === undefined ? el("span", { class: "quiet" }, "not set") : typeof value === "string" ? value : JSON.stringify(value));
  return Object.keys({ ...left, ...right })
    .filter((name) => JSON.stringify(left[name]) !== JSON.stringify(right[name]))
    .map((name) => [prefix + name, text(left[name]), text(right[name])]);
}
