// Browser notifications of new critical alerts, for those who asked for them.

import { el, fill } from "./dom.js";
import { runPath } from "./format.js";
import { remembered } from "./link.js";
import { listen, stay } from "./live.js";

const WANTED = "watchstep-notify";

/** A button that turns them on and off, and the notifications themselves. */
export function offer(place) {
  if (!("Notification" in window && navigator.locks)) return; // Browsers give both on https and on this machine only.
  const on = () => Notification.permission === "granted" && remembered(WANTED, false);
  const draw = () => fill(place, el("button", { type: "button", class: "small plain", "aria-pressed": String(on()), onclick: turn }, on() ? "Notifications are on" : "Notify me of critical alerts"));
  async function turn() {
    const ask = !on();
    if (ask && (await Notification.requestPermission()) !== "granted") return;
    remembered(WANTED, false, ask);
    if (ask) begin();
    draw();
  }
  draw();
  if (on()) begin();
  listen((kind, event) => {
    const news = kind === "transition" && event.change === "firing" && event.severity === "critical";
    if (news && held && on()) show(event);
  });
}

let held = false;

/** One tab of all notifies, and keeps its stream while it is out of sight. */
function begin() {
  navigator.locks.request(WANTED, () => {
    held = true;
    stay();
    return new Promise(() => {});
  });
}

function show({ run, rule, reason }) {
  const note = new Notification(`${run}: ${rule}`, { body: reason, tag: `${run} ${rule}` });
  note.onclick = () => {
    window.focus();
    location.assign(runPath(run));
  };
}
