// Post-mortems: of a run in the store, or of a file from this machine, which is sent, examined and forgotten.

import { get, send } from "./api.js";
import { el, fill, trouble } from "./dom.js";
import { runLink } from "./format.js";
import { report } from "./report.js";

// How files begin that are no log, so that nobody waits for them to be sent; nothing is refused that
// could be one: archives may hold logs.
const NO_LOGS = [
  ["a picture", [0x89, 0x50, 0x4e, 0x47]],
  ["a picture", [0xff, 0xd8, 0xff]],
  ["a picture", [0x47, 0x49, 0x46, 0x38]],
  ["a PDF", [0x25, 0x50, 0x44, 0x46]],
  ["a program", [0x7f, 0x45, 0x4c, 0x46]],
  ["an HDF5 file", [0x89, 0x48, 0x44, 0x46]],
];

/** Why a file is no log, as far as its first bytes say; null where it may be one. */
async function noLog(file) {
  if (file.size === 0) return "The file is empty.";
  const head = new Uint8Array(await file.slice(0, 8).arrayBuffer());
  const kind = NO_LOGS.find(([, bytes]) => bytes.every((byte, index) => head[index] === byte));
  return kind ? `This is ${kind[0]}, not a training log. It was not sent.` : null;
}

export async function show(place) {
  const [, , run] = location.pathname.split("/");
  return run ? showRun(place, decodeURIComponent(run)) : showFiles(place);
}

/** From all of its stored updates. */
async function showRun(place, run) {
  document.title = `Post-mortem of ${run} - watchstep`;
  const body = el("div", { class: "row-gap" });
  fill(place, el("h1", {}, "Post-mortem of ", runLink(run)), body);

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

function showFiles(place) {
  const reports = el("div", { class: "row-gap", "aria-live": "polite" });
  const input = el("input", { type: "file", id: "logs", multiple: true, onchange: () => take(input.files) });
  const drop = el(
    "section",
    { class: "panel drop", "aria-label": "Log files" },
    el("label", { for: "logs", class: "big" }, "Log files of a run"),
    input,
    el("p", { class: "quiet" }, "Or drop them here. TensorBoard events, Stable-Baselines3, Transformers, Megatron, RLlib, W&B and others, CSV, JSON or the console's text; .gz too. A file is recognised by its content. It is read, never executed, and kept only until the report is made."),
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
      const reason = await noLog(file);
      fill(part, reason ? trouble({ title: file.name, message: reason }) : report(await send("/api/v1/postmortem", { name: file.name }, file)));
    } catch (error) {
      fill(part, trouble(Object.assign(error, { title: file.name }), () => examine(file, part)));
    }
  }
}
