// Alerts of all runs, and the silences.

import { all, get } from "./api.js";
import { el, fill, refill, trouble } from "./dom.js";
import { level, number, runLink, when, whole } from "./format.js";
import { handling, ranked } from "./incident.js";
import { calm, listen } from "./live.js";
import { runPicker } from "./pick.js";
import { silenceTable } from "./silences.js";

const STATES = ["firing", "pending", "resolved", null];
const SEVERITIES = [["", "All"], ["critical", "critical"], ["warning", "warning"], ["info", "info"]];
const BURST_MS = 500;
const A_PAGE = 100;
const MOST_RANKED = 2000;

export async function show(place) {
  const address = new URLSearchParams(location.search);
  const query = { state: address.has("run") ? null : "firing", severity: "", run: address.get("run") || "", cursor: null };
  let most = A_PAGE; // Rows that are shown of those that are ranked.
  const states = el("div", { class: "chips", role: "group", "aria-label": "State" });
  const severity = el("select", { onchange: () => change({ severity: severity.value }) }, SEVERITIES.map(([value, label]) => el("option", { value }, label)));
  const run = runPicker("Run", (name) => change({ run: name }), query.run);
  const list = el("div", {});
  const more = el("div", { class: "pages" });
  const silences = el("section", { class: "panel", "aria-label": "Silences" });
  fill(
    place,
    el("div", { class: "head" }, el("h1", {}, "Alerts"), el("span", { class: "grow" }), states),
    el("form", { class: "controls", role: "search", onsubmit: (event) => event.preventDefault() }, run, el("label", {}, "Severity", severity)),
    list,
    more,
    silences,
  );

  function change(fields, rows = A_PAGE) {
    Object.assign(query, { cursor: null }, fields);
    most = rows;
    return refresh();
  }

  /** The open alerts or those of a run, the gravest first; else a page of what is over, newest first. */
  async function chosen() {
    const path = "/api/v1/alerts";
    if (!query.run && !["firing", "pending"].includes(query.state)) return get(path, { ...query, limit: A_PAGE });
    const items = ranked(await all(path, { ...query, limit: 500 }, MOST_RANKED));
    return { items: items.slice(0, most), left: items.length > most };
  }

  async function refresh() {
    refill(states, query.state, () => STATES.map((state) => el("button", { type: "button", "aria-pressed": String(query.state === state), onclick: () => change({ state }) }, state || "all")));
    try {
      const [answer, quiet] = await Promise.all([chosen(), get("/api/v1/silences")]);
      refill(list, [query, answer.items], () => (answer.items.length ? table(answer.items, refresh) : nothing(query)));
      fill(more, query.cursor && el("button", { type: "button", onclick: () => change({}) }, "Back to the newest"), answer.left && el("button", { type: "button", onclick: () => change({}, most + A_PAGE) }, "Show more"), answer.next_cursor && el("button", { type: "button", onclick: () => change({ cursor: answer.next_cursor }) }, "Older ones"));
      refill(silences, quiet.items, () => [el("h2", {}, "Silences"), silenceTable(quiet.items, refresh)]);
    } catch (error) {
      fill(list, trouble(error, refresh));
    }
  }

  await refresh();
  const soon = calm(refresh, BURST_MS);
  listen((kind) => ["transition", "acknowledged", "again"].includes(kind) && soon());
}

function table(alerts, changed) {
  const names = ["Rule", "Run", "Severity", "Reading", "Since", "Action"];
  const head = names.map((name) => el("th", { scope: "col" }, name));
  return el("div", { class: "panel table scroll" }, el("table", { class: "stack" }, el("caption", { class: "visually-hidden" }, "Alerts"), el("thead", {}, el("tr", {}, head)), el("tbody", {}, alerts.map((alert) => row(alert, changed)))));
}

function row(alert, changed) {
  const urgency = alert.state !== "firing" ? "" : alert.severity === "critical" ? "urgent" : alert.severity === "warning" ? "caution" : "";
  return el(
    "tr",
    { class: urgency, "data-alert": alert.id },
    el("td", { class: "full" }, el("strong", {}, alert.rule), alert.state !== "firing" && [" ", el("span", { class: "pill" }, alert.state)], el("div", { class: "clamp" }, alert.summary)),
    el("td", {}, runLink(alert.run), el("div", { class: "under" }, alert.project)),
    el("td", {}, level(alert.severity)),
    el("td", { class: "full" }, alert.metric && [el("code", {}, alert.metric), el("div", { class: "under" }, `was ${number(alert.reading)}`)]),
    el("td", {}, when(alert.since), el("div", { class: "under" }, `update ${whole(alert.first_update)}`)),
    el("td", { class: "full" }, el("div", { class: "row together" }, handling(alert, changed))),
  );
}

function nothing(query) {
  const plain = query.state === "firing" && !query.run && !query.severity;
  return el("div", { class: "panel empty" }, el("h2", {}, plain ? "Nothing is firing" : "No alert fits"), el("p", {}, plain ? "No rule holds for any run now. Resolved alerts are kept under their own button." : "Take away a filter."));
}
