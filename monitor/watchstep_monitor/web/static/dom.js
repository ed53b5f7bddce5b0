// Elements from values. Text only ever becomes text nodes: nothing that a trainer or a rule
// file wrote is read as markup anywhere on the page.

const SVG = "http://www.w3.org/2000/svg";
const drawn = new WeakMap(); // What elements were made of, where `refill` made them.

/** An element; `attributes` named on... are listeners, false and null ones are left out. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replace everything in an element. */
export function fill(node, ...children) {
  drawn.delete(node);
  node.replaceChildren();
  append(node, children);
  return node;
}

/**
 * Replace everything in an element where `source`, of which it is made, has changed. Whoever is at a
 * control in it by the keyboard stays there, and what was unfolded stays so.
 */
export function refill(node, source, make) {
  const text = JSON.stringify(source);
  if (drawn.get(node) === text) return;
  const named = (control) => `${control.tagName} ${control.getAttribute("aria-label") || control.textContent}`;
  const all = () => [...node.querySelectorAll("a, button, summary, input, select")];
  const at = node.contains(document.activeElement) && named(document.activeElement);
  const open = [...node.querySelectorAll("details[open] > summary")].map(named);
  fill(node, make());
  drawn.set(node, text);
  for (const control of all()) if (open.includes(named(control))) control.parentElement.open = true;
  if (at) all().find((control) => named(control) === at)?.focus();
}

/** Say something to people, screen readers included; it fades by itself. */
export function tell(text, kind = "good") {
  const note = el("p", { class: `note note-${kind}` }, text);
  document.getElementById("told").append(note);
  setTimeout(() => note.remove(), 6000);
}

/** Wait for what a person asked for, and say how it went; whether it went well. */
export async function attempt(work, done) {
  try {
    await work;
  } catch (error) {
    tell(error.message, "bad");
    return false;
  }
  tell(done);
  return true;
}

/** What a failed call says, where a view would have been. */
export function trouble(error, again) {
  return el(
    "div",
    { class: "panel empty", role: "alert" },
    el("h2", {}, error.title || "This did not work"),
    el("p", {}, error.message),
    again && el("button", { type: "button", onclick: again }, "Try again"),
  );
}
