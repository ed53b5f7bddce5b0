// The rules that judge every run, by group.

import { get, post } from "./api.js";
import { el, fill, tell, trouble } from "./dom.js";
import { level, outside, when, whole } from "./format.js";

export async function show(place) {
  const list = el("div", { class: "row-gap" });
  const count = el("span", { class: "quiet", role: "status" });
  const find = el("input", { type: "search", placeholder: "Name, expression or cause", oninput: () => draw() });
  let rules = [];
  let record = null;
  fill(
    place,
    el("div", { class: "head" }, el("h1", {}, "Rules"), count, el("span", { class: "grow" }), el("button", { type: "button", onclick: reload }, "Load the files again")),
    el("form", { class: "controls", role: "search", onsubmit: (event) => event.preventDefault() }, el("label", { class: "wide" }, "Search", find)),
    list,
  );

  async function refresh() {
    try {
      rules = (await get("/api/v1/rules")).items;
      draw();
      const [counted, answers] = await Promise.all([get("/page/rules/record"), get("/api/v1/answers")]);
      record = { ...counted, answers: new Map(answers.items.map((item) => [item.rule, item])) };
      draw();
    } catch (error) {
      fill(list, trouble(error, refresh));
    }
  }

  async function reload() {
    try {
      const answer = await post("/-/reload", {});
      tell(`${answer.rules} rules loaded.`);
    } catch (error) {
      tell(`The rules stay as they were. ${error.message}`, "bad");
    }
    await refresh();
  }

  function draw() {
    const word = find.value.trim().toLowerCase();
    const fitting = rules.filter((rule) => JSON.stringify(rule).toLowerCase().includes(word));
    count.textContent = `${fitting.length} of ${rules.length}`;
    const groups = [...new Set(fitting.map((rule) => rule.group))];
    fill(list, groups.map((group) => section(group, fitting.filter((rule) => rule.group === group), record)));
  }

  await refresh();
}

function section(group, rules, record) {
  return el("section", { class: "panel", "aria-label": `Group ${group}` }, el("h2", {}, group || "without a group"), rules.map((each) => article(each, record)));
}

function article(rule, record) {
  const notes = rule.annotations;
  const says = [["Why it is certain", notes.reason], ["Likely cause", notes.cause], ["Measured", notes.source]];
  return el(
    "article",
    { class: "rule", id: rule.name },
    el("div", { class: "row" }, el("h3", {}, rule.name), level(rule.severity), rule.action !== "none" && el("span", { class: "pill" }, rule.action), holds(rule.for) && el("span", { class: "quiet" }, holds(rule.for))),
    notes.summary && el("p", {}, notes.summary),
    el("code", { class: "expr" }, rule.expr),
    record && figures(rule, record),
    says.map(([name, text]) => text && el("p", { class: "quiet" }, el("strong", {}, `${name}: `), text)),
    notes.runbook_url && el("p", {}, outside(notes.runbook_url, "Runbook")),
  );
}

/** What the rule did: over the labelled logs that it was tried on, and over the runs here. */
function figures(rule, { backtest, here, answers }) {
  const seen = here[rule.name];
  const answer = answers.get(rule.name);
  return el(
    "dl",
    { class: "figures record" },
    el("div", {}, el("dt", {}, "Backtest"), backtestOf(backtest, backtest.rules[rule.name])),
    el("div", {}, el("dt", {}, "Here"), el("dd", {}, seen ? [`fired in ${whole(seen.runs)} ${seen.runs === 1 ? "run" : "runs"}`, el("small", {}, `${whole(seen.bad)} of them diverged, failed, halted, stalled or lost; last `, when(seen.last_at))] : el("small", {}, "has not fired"))),
    answer && el("div", {}, el("dt", {}, "What people answer"), el("dd", {}, `${whole(answer.right)} right, ${whole(answer.false_alarms)} false ${answer.false_alarms === 1 ? "alarm" : "alarms"}`)),
  );
}

function backtestOf({ logs, healthy_updates: updates }, record) {
  if (!record) return el("dd", {}, el("small", {}, "none shipped: watchstep rules backtest LOGS"));
  const all = Object.values(logs).reduce((sum, count) => sum + count, 0);
  if (record.tried === 0) return el("dd", {}, el("small", {}, `not tried: none of ${all} logs reports what it reads`));
  const lag = record.median_lag_updates;
  return el(
    "dd",
    {},
    `caught ${record.caught} of ${logs.faulty} faulty logs`,
    lag !== null && el("small", {}, timely(lag)),
    el("small", { class: record.false_alarms ? "wrong" : "" }, `${whole(record.false_alarms)} false ${record.false_alarms === 1 ? "alarm" : "alarms"} in ${logs.healthy} healthy logs, ${whole(updates)} updates`),
    record.tried < all && el("small", {}, `${record.tried} of ${all} logs report what it reads`),
  );
}

function timely(lag) {
  if (lag === 0) return "in the very update (median)";
  return lag > 0 ? `${whole(lag)} updates after the first bad one (median)` : `${whole(-lag)} updates ahead of the first bad one (median)`;
}

function holds(span) {
  return !span || span === "1 updates" ? "" : `for ${span}`;
}
