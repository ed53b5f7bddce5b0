// Questions in a modal dialog; the browser's own element keeps focus, Escape and inertness right.

import { el } from "./dom.js";

/**
 * Ask; resolves with the fields' values, or null when it was closed.
 * `fields` are {name, label, value, type, hint, options, required}.
 */
export function ask({ title, text, fields = [], yes, danger = false, closable = true }) {
  return new Promise((resolve) => {
    const controls = fields.map(control);
    const form = el(
      "form",
      { method: "dialog" },
      el("h2", { id: "dialog-title" }, title),
      [text].flat().map((line) => line && el("p", {}, line)),
      controls.map((field) => field.row),
      el(
        "div",
        { class: "row end" },
        closable && el("button", { type: "button", class: "plain", onclick: () => box.close() }, "Cancel"),
        el("button", { type: "submit", class: danger ? "danger" : "primary" }, yes),
      ),
    );
    const box = el("dialog", { "aria-labelledby": "dialog-title" }, form);
    let values = null;
    form.addEventListener("submit", () => {
      values = Object.fromEntries(controls.map((field) => [field.name, field.input.value]));
    });
    box.addEventListener("cancel", (event) => closable || event.preventDefault());
    box.addEventListener("close", () => {
      box.remove();
      resolve(values);
    });
    document.body.append(box);
    box.showModal();
  });
}

function control(field) {
  const id = `field-${field.name}`;
  const shared = { id, name: field.name, required: field.required, autocomplete: "off" };
  const input = field.options
    ? el("select", shared, field.options.map(([value, label]) => el("option", { value }, label)))
    : el("input", { ...shared, type: field.type || "text", maxlength: field.most || 200 });
  if (field.value !== undefined) input.value = field.value;
  const hint = field.hint && el("small", { class: "quiet" }, field.hint);
  return { name: field.name, input, row: el("div", { class: "field" }, el("label", { for: id }, field.label), input, hint) };
}

/** Ask for a bearer token; `refused` is what the service said of the last field. */
export async function askForToken(refused) {
  const { token } = await ask({
    title: "This service needs a token",
    text: refused
      ? `The token was not accepted: ${refused}`
      : "Paste a token that may read. To acknowledge, silence or halt it needs the scope admin. This browser keeps it for 30 days, where no script can read it.",
    fields: [{ name: "token", label: "Token", type: "password", required: true }],
    yes: "Go on",
    closable: false,
  });
  return token.trim();
}
