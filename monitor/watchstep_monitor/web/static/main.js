// Starts the view that the shell names.

import { el, fill, trouble } from "./dom.js";
import { listen } from "./live.js";

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
// Relative times grow old while the page is open.
setInterval(async () => {
  const { ago } = await import("./format.js");
  for (const node of document.querySelectorAll("time[datetime]")) {
    if (!node.dataset.fixed) node.textContent = ago(node.getAttribute("datetime"));
  }
}, 5000);
