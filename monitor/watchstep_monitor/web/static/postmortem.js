// Old logs: a file from this machine is sent, examined by the service, and forgotten.

import { send } from "./api.js";
import { el, fill, trouble } from "./dom.js";
import { report } from "./report.js";

export async function show(place) {
  const reports = el("div", { class: "row-gap", "aria-live": "polite" });
  const input = el("input", { type: "file", id: "logs", multiple: true, onchange: () => take(input.files) });
  const drop = el(
    "section",
    { class: "panel drop", "aria-label": "Log files" },
    el("label", { for: "logs", class: "big" }, "Log files of a run"),
    input,
    el("p", { class: "quiet" }, "Or drop them here. TensorBoard events, Stable-Baselines3, Transformers, Megatron, RLlib, W&B and others, CSV, JSON or the console's text; .gz too. What a file is, its content decides. It is read, never executed, and kept only until the report is made."),
    el("p", { class: "quiet" }, "Whole folders and larger logs: ", el("code", {}, "watchstep postmortem runs/"), "."),
  );
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
  fill(place, el("h1", {}, "Post-mortem of a log"), drop, reports);

  async function take(files) {
    fill(reports);
    for (const file of [...files]) { // One after the other: the service makes few at a time.
      const part = el("div", { class: "row-gap" }, el("p", { class: "quiet", role: "status" }, `Examining ${file.name}`));
      reports.append(part);
      await examine(file, part);
    }
    input.value = ""; // So that the same file can be chosen again.
  }

  async function examine(file, part) {
    try {
      const found = await send("/api/v1/postmortem", { name: file.name }, file);
      fill(part, report(found));
    } catch (error) {
      fill(part, trouble(Object.assign(error, { title: file.name }), () => examine(file, part)));
    }
  }
}
