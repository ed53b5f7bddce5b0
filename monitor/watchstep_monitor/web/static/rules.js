// The rules that judge every run, by group.

import { get, post } from "./api.js";
import { el, fill, tell, trouble } from "./dom.js";
import { level, outside } from "./format.js";

export async function show(place) {
  const list = el("div", { class: "row-gap" });
  const count = el("span", { class: "quiet", role: "status" });
  const find = el("input", { type: "search", placeholder: "Name, expression or cause", oninput: () => draw() });
  let rules = [];
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
    fill(list, groups.map((group) => section(group, fitting.filter((rule) => rule.group === group))));
  }

  await refresh();
}

function section(group, rules) {
  return el("section", { class: "panel", "aria-label": `Group ${group}` }, el("h2", {}, group || "without a group"), rules.map(rule));
}

function rule(one) {
  const notes = one.annotations;
  const says = [["Why it is certain", notes.reason], ["Likely cause", notes.cause], ["Measured", notes.source]];
  return el(
    "article",
    { class: "rule", id: one.name },
    el("div", { class: "row" }, el("h3", {}, one.name), level(one.severity), one.action !== "none" && el("span", { class: "pill" }, one.action), holds(one.for) && el("span", { class: "quiet" }, holds(one.for))),
    notes.summary && el("p", {}, notes.summary),
    el("code", { class: "expr" }, one.expr),
    says.map(([name, text]) => text && el("p", { class: "quiet" }, el("strong", {}, `${name}: `), text)),
    notes.runbook_url && el("p", {}, outside(notes.runbook_url, "Runbook")),
  );
}

function holds(span) {
  if (!span || span === "1") return "";
  return /^\d+$/.test(span) ? `for ${span} updates` : `for ${span}`;
}
