// Who is told, whether it works, and what was sent.

import { get, post } from "./api.js";
import { attempt, el, fill, refill, tell, trouble } from "./dom.js";
import { runLink, when } from "./format.js";
import { calm, listen } from "./live.js";

const STATES = [null, "waiting", "delivered", "dead"];
const PILLS = { delivered: "zone-ok", waiting: "zone-info", dead: "zone-danger" };
const BURST_MS = 700;

export async function show(place) {
  const query = { state: null, cursor: null };
  const cards = el("div", { class: "cards" });
  const states = el("div", { class: "chips", role: "group", "aria-label": "State of deliveries" });
  const list = el("div", {});
  const more = el("div", { class: "pages" });
  fill(place, el("h1", {}, "Receivers"), cards, el("div", { class: "head" }, el("h2", {}, "Deliveries"), el("span", { class: "grow" }), states), list, more);

  async function refresh() {
    refill(states, query.state, () => STATES.map((state) => el("button", { type: "button", "aria-pressed": String(query.state === state), onclick: () => change({ state }) }, state || "all")));
    try {
      const [receivers, answer] = await Promise.all([get("/api/v1/receivers"), get("/api/v1/deliveries", { ...query, limit: 100 })]);
      refill(cards, receivers.items, () => (receivers.items.length ? receivers.items.map((receiver) => card(receiver, refresh)) : none()));
      refill(list, answer.items, () => (answer.items.length ? table(answer.items, refresh) : el("p", { class: "quiet" }, "No such delivery.")));
      fill(more, answer.next_cursor && el("button", { type: "button", onclick: () => change({ cursor: answer.next_cursor }) }, "Older ones"));
    } catch (error) {
      fill(cards, trouble(error, refresh));
    }
  }

  function change(fields) {
    Object.assign(query, { cursor: null }, fields);
    return refresh();
  }

  await refresh();
  const soon = calm(refresh, BURST_MS);
  listen((kind) => ["delivery", "stage", "transition", "again"].includes(kind) && soon());
}

function none() {
  return el("div", { class: "panel" }, el("h2", {}, "No one is told yet"), el("p", { class: "quiet" }, "Name a receiver in the settings, for instance:"), el("code", { class: "expr" }, "receivers: {team: {kind: slack, url: …}}"));
}

function card(receiver, changed) {
  const { name, kind, disabled, ...rest } = receiver;
  const figures = Object.entries(rest).filter(([, value]) => value !== null && value !== "" && typeof value !== "object");
  const button = el("button", { type: "button", class: "small", "aria-label": `Send a test to ${name}`, onclick: () => test(name, button, changed) }, "Send a test");
  return el(
    "section",
    { class: "panel", "aria-label": `Receiver ${name}` },
    el("div", { class: "row" }, el("h2", {}, name), el("span", { class: "pill" }, kind), el("span", { class: "grow" }), button),
    disabled ? el("p", {}, el("span", { class: "pill zone-danger" }, "off"), " ", String(disabled === true ? "It said that it is gone for good." : disabled)) : null,
    el("dl", { class: "figures" }, figures.map(([key, value]) => el("div", {}, el("dt", {}, key.replaceAll("_", " ")), el("dd", {}, el("small", {}, /_at$/.test(key) ? when(value) : String(value)))))),
  );
}

async function test(name, button, changed) {
  button.disabled = true;
  button.textContent = "Sending";
  try {
    const { delivered, reason } = await post(`/api/v1/receivers/${encodeURIComponent(name)}/test`, {});
    tell(delivered ? `${name} took the test.` : `${name} did not take it: ${reason}.`, delivered ? "good" : "bad");
  } catch (error) {
    tell(error.message, "bad");
  }
  button.disabled = false;
  button.textContent = "Send a test";
  changed();
}

function table(deliveries, changed) {
  const head = ["Receiver", "Run", "Edge", "State", "Tries", "Made", "Note"].map((name) => el("th", { scope: "col" }, name));
  const row = (delivery) =>
    el(
      "tr",
      { "data-delivery": delivery.id },
      el("td", {}, el("strong", {}, delivery.receiver)),
      el("td", {}, delivery.run ? runLink(delivery.run) : "test"),
      el("td", {}, delivery.edge),
      el("td", {}, el("span", { class: `pill ${PILLS[delivery.state] || ""}` }, delivery.state)),
      el("td", { "data-name": "tries" }, delivery.attempts),
      el("td", {}, when(delivery.created_at)),
      el("td", { class: "full" }, el("div", { class: "row" }, delivery.reason && el("span", { class: "quiet" }, delivery.reason), delivery.state === "dead" && el("button", { type: "button", class: "small", "aria-label": `Send again to ${delivery.receiver}`, onclick: () => resend(delivery, changed) }, "Send again"))),
    );
  return el("div", { class: "panel table scroll" }, el("table", { class: "stack" }, el("caption", { class: "visually-hidden" }, "Deliveries"), el("thead", {}, el("tr", {}, head)), el("tbody", {}, deliveries.map(row))));
}

async function resend(delivery, changed) {
  await attempt(post(`/api/v1/deliveries/${delivery.id}/resend`, {}), `${delivery.receiver} is told again.`);
  changed();
}
