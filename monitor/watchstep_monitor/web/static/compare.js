// Runs side by side: what differs in their settings, and their metrics in one chart each.

import { get } from "./api.js";
import { Charts, sourcesOf } from "./charts.js";
import { settings, surroundings } from "./config.js";
import { el, fill, trouble } from "./dom.js";
import { number, status, whole, zone, ZONES } from "./format.js";
import { grouped } from "./groups.js";
import { fromLink, intoLink } from "./link.js";
import { runPicker } from "./pick.js";

export async function show(place) {
  const address = fromLink();
  let chosen = [...new Set([address.get("a"), address.get("b"), ...address.getAll("run")].filter(Boolean))];
  const result = el("div", { class: "row-gap" });
  const chips = el("div", { class: "chips" });
  const picker = runPicker("Add a run", (run) => run && choose([...chosen.filter((name) => name !== run), run]));
  fill(place, el("h1", {}, "Compare runs"), el("div", { class: "controls" }, picker), chips, result);

  function choose(runs) {
    chosen = runs;
    return compare();
  }

  async function compare() {
    intoLink({ a: null, b: null, run: chosen });
    fill(chips, chosen.map((run) => el("button", { type: "button", "aria-label": `Take ${run} away`, onclick: () => choose(chosen.filter((name) => name !== run)) }, run, " ✕")));
    if (chosen.length < 2) return fill(result, el("p", { class: "quiet" }, "Choose two runs or more: their settings and metrics are laid side by side."));
    try {
      const runs = await Promise.all(chosen.map((run) => get(`/api/v1/runs/${encodeURIComponent(run)}`)));
      const scales = await get(`/page/runs/${encodeURIComponent(chosen[0])}/scales`);
      return draw(result, runs, scales);
    } catch (error) {
      return fill(result, trouble(error, compare));
    }
  }

  await compare();
}

function draw(place, runs, scales) {
  const about = (metric) => ({ scale: scales[metric] || { zones: [], thresholds: [] }, marks: [] });
  const readings = Object.assign({}, ...runs.map((run) => run.readings).reverse());
  const shared = Object.keys(readings).filter((name) => runs.filter((run) => name in run.readings).length > 1);
  const charts = new Charts(sourcesOf(runs.map((run) => run.run)), about);
  const table = el("div", { class: "panel table" }, settings(runs, (run) => facts(run, runs)));
  fill(place, table, shared.length ? [el("h2", {}, "Metrics of at least two"), charts.node] : el("p", { class: "quiet" }, "They report no metric in common."));
  charts.order(grouped(Object.fromEntries(shared.map((name) => [name, readings[name]])), scales));
}

/** What is compared besides the settings; every run has the same rows. */
function facts(run, runs) {
  const tags = [...new Set(runs.flatMap((each) => Object.keys(each.tags)))].sort();
  const bad = (each, name) => ZONES.indexOf(each.readings[name]?.zone) > ZONES.indexOf("info");
  const worst = [...new Set(runs.flatMap((each) => Object.keys(each.readings)))].filter((name) => runs.some((each) => bad(each, name)));
  const reading = (name) => run.readings[name] && [number(run.readings[name].value), " ", run.readings[name].zone && zone(run.readings[name].zone)];
  const where = Object.fromEntries(surroundings(run));
  return [
    ["Status", status(run.status)],
    ["Health", status(run.health)],
    ["Step", whole(run.step)],
    ["Alerts firing", whole(run.counts.firing)],
    ["Incident", run.incident ? run.incident.stage : "none"],
    ["Project", run.project],
    ["Trainer", run.trainer || undefined],
    ["Host", where.Host],
    ["Git commit", where["Git commit"]],
    ["Versions", where.Versions],
    ...tags.map((name) => [`tag ${name}`, run.tags[name]]),
    ...worst.map((name) => [el("code", {}, name), reading(name)]),
  ];
}
