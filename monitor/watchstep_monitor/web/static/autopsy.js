// The post-mortem of a run in the store, from all of its stored updates.

import { get } from "./api.js";
import { el, fill, trouble } from "./dom.js";
import { runLink } from "./format.js";
import { report } from "./report.js";

export async function show(place) {
  const run = decodeURIComponent(location.pathname.split("/")[2]);
  document.title = `Post-mortem of ${run} - watchstep`;
  const head = el("div", { class: "head" }, el("h1", {}, "Post-mortem of ", runLink(run)));
  const body = el("div", { class: "row-gap" });
  fill(place, head, body);

  async function examine() {
    fill(body, el("p", { class: "quiet", role: "status" }, "Examining all updates of the run"));
    try {
      fill(body, report(await get(`/api/v1/runs/${encodeURIComponent(run)}/postmortem`)));
    } catch (error) {
      fill(body, trouble(error, examine));
    }
  }

  await examine();
}
