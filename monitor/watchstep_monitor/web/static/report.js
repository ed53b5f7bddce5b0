// A post-mortem: the verdict, since when, what fired, why, and where to go back to.

import { save } from "./chart.js";
import { Charts } from "./charts.js";
import { el } from "./dom.js";
import { level, number, reading, sentence, whole } from "./format.js";
import { ranked, reasons } from "./incident.js";

const ZONES = { healthy: "ok", suspicious: "warning", exploded: "critical", diverged: "critical", died: "critical" };
const ANSWERS = { yes: "zone-warning", no: "zone-ok" };

/** The answer of a post-mortem as elements: one part for each run in it. */
export function report(answer) {
  return [answer.runs.length > 1 && el("p", {}, `${answer.runs.length} runs, worst first`), answer.runs.map((run) => article(run, answer.page))];
}

function article(run, page) {
  const zone = ZONES[run.verdict] || "info";
  return el(
    "article",
    { class: "row-gap", "aria-label": `Report on ${run.run}` },
    el(
      "section",
      { class: `panel incident ${zone === "ok" ? "calm" : zone === "warning" ? "" : "critical"}`, "aria-label": "Verdict" },
      el("div", { class: "head" }, el("h2", {}, run.run), el("span", { class: `pill zone-${zone}` }, run.verdict), el("span", { class: "grow" }), download("Save as one page", `${run.run}.html`, page, "text/html"), download("JSON", `${run.run}.json`, JSON.stringify(run, null, 1), "application/json")),
      el("p", { class: "diagnosis" }, sentence(run.means), ". ", begun(run)),
      stages(run),
      run.failure && el("p", { class: "mono" }, run.failure),
      figures(run),
      run.trigger && el("p", { class: "reasons" }, el("strong", {}, "Trigger: "), run.trigger),
    ),
    causes(run),
    alerts(run),
    charts(run),
    back(run),
    checklist(run),
    notes(run),
  );
}

function begun(run) {
  if (run.first_bad_update === null) return "";
  const halt = run.halt ? `With on_critical="halt" the hook would have stopped it at ${run.unit} ${whole(run.halt_update)}${run.saved_updates ? `, ${whole(run.saved_updates)} updates sooner` : ""}.` : "No rule that fired would have halted it.";
  return `It began at ${run.unit} ${whole(run.first_bad_update)}. ${halt}`;
}

function stages(run) {
  if (run.stages.length === 0) return null;
  const last = run.stages.length - 1;
  return el("ol", { class: "stages", "aria-label": "Stages" }, run.stages.map((phase, at) => el("li", { class: at < last && "past", "aria-current": at === last && "step" }, phase.stage[0].toUpperCase() + phase.stage.slice(1), el("div", { class: "quiet" }, phase.first_update === phase.last_update ? whole(phase.first_update) : `${whole(phase.first_update)} to ${whole(phase.last_update)}`))));
}

function figures(run) {
  const figure = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  return el(
    "dl",
    { class: "figures" },
    figure("Updates", [whole(run.updates), run.partial && el("small", { class: "quiet" }, " partly read")]),
    figure(`First bad ${run.unit}`, whole(run.first_bad_update)),
    figure(`Last good ${run.unit}`, whole(run.last_good_update)),
    figure("After the first bad one", whole(run.wasted_updates)),
    figure("Read as", el("small", {}, `${run.format}${run.kind ? `, ${run.kind}` : ""}`)),
    figure("Judged by", el("small", {}, run.rules.join(", "))),
  );
}

function causes(run) {
  if (run.causes.length === 0) return null;
  const [first, ...others] = run.causes;
  const cause = (each) => el(
    "div",
    {},
    el("p", { class: "diagnosis" }, each.title),
    el("p", { class: "quiet" }, el("meter", { min: 0, max: 100, value: Math.round(each.confidence * 100), "aria-label": "Confidence" }), ` ${Math.round(each.confidence * 100)} % sure`),
    reasons("Because", each.evidence),
    reasons("Against it", each.against),
  );
  return el("section", { class: "panel row-gap", "aria-label": "Likely cause" }, el("h2", {}, "Likely cause"), cause(first), others.length > 0 && el("details", {}, el("summary", {}, "Other causes that fit less"), others.map(cause)));
}

function alerts(run) {
  if (run.alerts.length === 0) return null;
  const row = (alert) => el(
    "tr",
    {},
    el("td", {}, el("strong", {}, alert.rule)),
    el("td", {}, level(alert.severity)),
    el("td", { class: "num", "data-name": "first" }, whole(alert.first_update)),
    el("td", { class: "num", "data-name": "last" }, whole(alert.last_update)),
  );
  const head = ["Rule", "Severity", `First ${run.unit}`, `Last ${run.unit}`];
  return el("section", { class: "row-gap", "aria-label": "What fired" }, el("h2", {}, "What fired"), el("div", { class: "panel table scroll" }, el("table", { class: "stack" }, el("caption", { class: "visually-hidden" }, "Alerts"), el("thead", {}, el("tr", {}, head.map((name, at) => el("th", { scope: "col", class: (at === 2 || at === 3) && "num" }, name)))), el("tbody", {}, ranked(run.alerts).map(row)))));
}

function charts(run) {
  if (run.charts.length === 0) return null;
  const drawn = new Map(run.charts.map((chart) => [chart.metric, chart]));
  const read = async (metric, { from_step: from = -Infinity, to_step: to = Infinity }) => {
    const { points, thinned } = drawn.get(metric);
    const inside = points.filter(([step]) => step >= from && step <= to).map(([step, value]) => ({ step, value: reading(value), attempt: 1 }));
    return Object.assign(inside, { thinned });
  };
  const marks = marksOf(run);
  const about = (metric) => ({ scale: drawn.get(metric).scale, marks });
  const shown = new Charts([{ read, label: "", colour: "trace-1" }], about, run.unit);
  shown.order([{ name: "Metrics", metrics: [...drawn.keys()] }]);
  return el("section", { class: "row-gap", "aria-label": "Course" }, el("h2", {}, "Course"), shown.node);
}

function marksOf(run) {
  const grave = run.alerts.filter((alert) => alert.severity !== "info");
  return [
    ...grave.map((alert) => ({ kind: alert.severity, step: alert.first_update, text: `${alert.rule} fires` })),
    run.halt_update !== null && { kind: "halt", step: run.halt_update, text: "the hook would have halted here" },
  ].filter(Boolean);
}

function back(run) {
  if (run.verdict === "healthy") return null;
  const good = run.last_good_update;
  return el("section", { class: "panel", "aria-label": "Where to go back to" }, el("h2", {}, "Where to go back to"), el("p", {}, good === null ? "No update was good: begin anew, with the fault mended." : `Any checkpoint saved up to ${run.unit} ${whole(good)}. `, good !== null && [el("code", {}, "watchstep checkpoint verify PATH"), " says whether it is intact and finite."]));
}

function checklist(run) {
  if (run.checklist.length === 0) return null;
  const row = (item) => el(
    "tr",
    {},
    el("td", {}, el("span", { class: `pill ${ANSWERS[item.answer] || ""}` }, item.answer)),
    el("td", { class: "full" }, item.question),
    el("td", { class: "full" }, item.update === null ? "" : `${number(item.found)} at ${whole(item.update)}`),
    el("td", { class: "full" }, item.claim, el("div", { class: "under" }, item.measured)),
  );
  return el("details", { class: "panel" }, el("summary", {}, el("strong", {}, "The checklist for old logs")), el("div", { class: "scroll" }, el("table", { class: "stack" }, el("thead", {}, el("tr", {}, ["Answer", "Question", "Found", "What it was said to mean, and what was measured"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, run.checklist.map(row)))));
}

function notes(run) {
  const list = (title, lines) => lines.length > 0 && el("div", {}, el("h3", {}, title), el("ul", { class: "quiet" }, lines.map((line) => el("li", {}, line))));
  if (run.not_checked.length + run.notes.length === 0) return null;
  return el("section", { class: "panel columns", "aria-label": "What the log does not tell" }, list("Not checked", run.not_checked), list("About the log", run.notes));
}

function download(label, name, text, type) {
  return el("button", { type: "button", class: "small", onclick: () => save(name, new Blob([text], { type })) }, label);
}
