// Starts the view that the shell names.

import { signedIn, signOut } from "./api.js";
import { el, fill, trouble } from "./dom.js";
import { ago } from "./format.js";
import { listen } from "./live.js";
import { offer } from "./notify.js";

const view = document.body.dataset.view;
const place = document.getElementById("view");

async function start() {
  try {
    const { show } = await import(`./${view}.js`);
    fill(place);
    place.removeAttribute("aria-busy");
    await show(place);
  } catch (error) {
    place.removeAttribute("aria-busy");
    fill(place, el("h1", {}, "Something is wrong"), trouble(error, () => location.reload()));
  }
}

await start();
listen(() => {});
offer(document.getElementById("notify"));
if (signedIn()) document.querySelector(".foot").append(" ", el("button", { type: "button", class: "small plain", onclick: signOut }, "Sign out"));
// "/" goes to the search, as in most lists.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  document.querySelector("input[type=search]")?.focus();
});
// Relative times grow old while the page is open.
setInterval(() => {
  for (const node of document.querySelectorAll("time[datetime]")) {
    if (!node.dataset.fixed) node.textContent = ago(node.getAttribute("datetime"));
  }
}, 5000);
