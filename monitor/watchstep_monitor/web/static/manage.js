// What people write about a run, and putting runs away: close, archive, delete.

import { patch, remove } from "./api.js";
import { ask } from "./dialog.js";
import { attempt, el, fill, tell } from "./dom.js";

const ACTS = {
  close: { label: "Close incident", text: "The incident and the alerts that still fire are over. Only of runs that have ended.", send: (path) => patch(path, { closed: true }) },
  archive: { label: "Archive", text: "Archived runs are left out of the list and of the attention of everyone; nothing is lost.", send: (path) => patch(path, { archived: true }) },
  restore: { label: "Back into the list", text: "They are shown in the list again.", send: (path) => patch(path, { archived: false }) },
  delete: { label: "Delete", text: "All of their updates, alerts and notes are removed for good. Only of runs that have ended.", send: remove, danger: true },
};

const pathOf = (run) => `/api/v1/runs/${encodeURIComponent(run)}`;

/** Ask, then do it to each of the runs; `done(act)` is called in the end. */
async function putAway(act, runs, done) {
  const { label, text, send, danger } = ACTS[act];
  const named = runs.length === 1 ? runs[0] : `${runs.length} runs`;
  if (!(await ask({ title: `${label}: ${named}?`, text: [text, runs.length > 1 && runs.slice(0, 12).join(", ") + (runs.length > 12 ? " …" : "")], yes: label, danger }))) return;
  const refused = [];
  for (const run of runs) await send(pathOf(run)).catch((error) => refused.push(`${run}: ${error.message}`));
  if (refused.length < runs.length) tell(`${label}: ${runs.length - refused.length} of ${runs.length} done.`);
  refused.slice(0, 3).forEach((line) => tell(line, "bad"));
  done(act, refused);
}

/** Buttons for a selection of runs; `selection()` gives their names. */
export function bulkButtons(selection, archived, changed) {
  const acts = ["close", archived ? "restore" : "archive", "delete"];
  return acts.map((act) => el("button", { type: "button", class: act === "delete" && "danger", onclick: () => putAway(act, selection(), changed) }, ACTS[act].label));
}

/** The same for one run, on its page, which is left when the run is deleted. */
export function putAwayButtons(run, changed) {
  const after = (act, refused) => (act === "delete" && refused.length === 0 ? location.assign("/") : changed());
  return bulkButtons(() => [run.run], run.archived, after);
}

/** Tags, edited in place as name=value words. */
export function tagList(run, changed) {
  const place = el("span", { class: "row" });
  const rest = () => fill(place,
    Object.entries(run.tags).map(([name, value]) => el("span", { class: "tag" }, `${name}=${value}`)),
    el("button", { type: "button", class: "small plain", onclick: edit }, "Edit tags"),
  );
  const edit = () => {
    const words = el("textarea", { rows: 3, "aria-label": "Tags, one name=value a line" });
    words.value = Object.entries(run.tags).map((pair) => pair.join("=")).join("\n");
    const pairs = () => words.value.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => [line.split("=")[0].trim(), line.split("=").slice(1).join("=").trim()]);
    fill(place, editor(words, () => write(run, { tags: Object.fromEntries(pairs()) }, changed), rest));
    words.focus();
  };
  rest();
  return place;
}

/** What people wrote about the run, edited in place. */
export function notesPanel(run, changed) {
  const place = el("div", { class: "row-gap" });
  const rest = () => fill(place,
    run.notes ? el("p", { class: "notes" }, run.notes) : el("p", { class: "quiet" }, "Nothing was written about this run."),
    el("div", {}, el("button", { type: "button", class: "small", onclick: edit }, "Edit notes")),
  );
  const edit = () => {
    const text = el("textarea", { rows: 5, maxlength: 10000, "aria-label": "Notes" });
    text.value = run.notes;
    fill(place, editor(text, () => write(run, { notes: text.value }, changed), rest));
    text.focus();
  };
  rest();
  return [el("h2", {}, "Notes"), place];
}

function editor(field, store, leave) {
  return el("form", { class: "row-gap", onsubmit: (event) => {
    event.preventDefault();
    store();
  }, onkeydown: (event) => event.key === "Escape" && leave() },
    field,
    el("div", { class: "row" }, el("button", { type: "submit", class: "small primary" }, "Save"), el("button", { type: "button", class: "small plain", onclick: leave }, "Cancel")),
  );
}

async function write(run, fields, changed) {
  // Where it fails, what was typed stays in its field.
  if (await attempt(patch(pathOf(run.run), fields), "Saved.")) changed();
}
