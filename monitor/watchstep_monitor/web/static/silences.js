// Silences: making one, and the list of those there are.

import { post, remove } from "./api.js";
import { ask } from "./dialog.js";
import { attempt, el } from "./dom.js";

const SPANS = [["3600", "1 hour"], ["14400", "4 hours"], ["86400", "1 day"], ["604800", "1 week"]];

/** Ask how long an alert is to be silent. */
export async function silenceFor(alert, changed) {
  const answer = await ask({
    title: `Silence ${alert.rule}`,
    text: "No one is told of it while the silence lasts. The alert itself stays visible here.",
    fields: [
      { name: "reach", label: "For", options: [["run", `the run ${alert.run}`], ["all", "every run"]] },
      { name: "seconds", label: "How long", options: SPANS },
      { name: "comment", label: "Why", required: true },
    ],
    yes: "Silence",
  });
  if (!answer) return;
  const matchers = [{ name: "alertname", value: alert.rule }];
  if (answer.reach === "run") matchers.push({ name: "run", value: alert.run });
  await attempt(post("/api/v1/silences", { matchers, duration_s: Number(answer.seconds), comment: answer.comment }), `${alert.rule} is silenced.`);
  changed();
}

/** The silences, each with a button that ends it. */
export function silenceTable(silences, changed) {
  const line = (silence) =>
    el(
      "tr",
      {},
      el("td", {}, silence.matchers.map((matcher) => el("code", { class: "tag" }, `${matcher.name}${matcher.isEqual ? "=" : "!"}${matcher.isRegex ? "~" : matcher.isEqual ? "" : "="}${matcher.value}`))),
      el("td", {}, silence.comment, el("div", { class: "under" }, silence.created_by)),
      el("td", {}, silence.state),
      el("td", {}, "until ", el("time", { datetime: silence.ends_at, "data-fixed": "1" }, new Date(silence.ends_at).toLocaleString())),
      el("td", {}, el("button", { type: "button", class: "small", onclick: () => end(silence, changed) }, "End")),
    );
  if (silences.length === 0) return el("p", { class: "quiet" }, "Nothing is silenced.");
  const names = ["Matches", "Why", "State", "Ends", ""];
  return el("div", { class: "scroll" }, el("table", { class: "stack" }, el("thead", {}, el("tr", {}, names.map((name) => el(name ? "th" : "td", { scope: name ? "col" : null }, name)))), el("tbody", {}, silences.map(line))));
}

async function end(silence, changed) {
  await attempt(remove(`/api/v1/silences/${silence.id}`), "The silence has ended.");
  changed();
}
