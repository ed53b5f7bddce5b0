// A sparkline: the shape of one metric, with a stroke wherever it was no number.

import { svg } from "./dom.js";
import { number, reading } from "./format.js";

const WIDTH = 120;
const HEIGHT = 30;

export function spark(metric, words) {
  const values = words.map(reading);
  const lift = scale(values.filter(Number.isFinite));
  const at = (index) => (values.length < 2 ? WIDTH / 2 : (index / (values.length - 1)) * WIDTH);
  const strange = values.flatMap((value, index) => (Number.isFinite(value) ? [] : [svg("line", { x1: at(index), x2: at(index), y1: 2, y2: HEIGHT - 2 })]));
  // A lone point between two gaps must be seen too: each piece begins with a short stroke.
  const path = values.map((value, index) => {
    if (!Number.isFinite(value)) return "";
    const place = `${at(index).toFixed(1)} ${lift(value).toFixed(1)}`;
    return Number.isFinite(values[index - 1]) ? `L${place}` : `M${place}h0.1`;
  });
  const label = `${metric}, latest ${number(values.at(-1))}`;
  return svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("title", {}, label),
    strange,
    svg("path", { d: path.join("") }),
  );
}

/** Height of a value. Where it runs over decades, decades are evenly high: a spike of 1e9 would
 * flatten everything before it. */
function scale(values) {
  const sizes = values.map(Math.abs).sort((a, b) => a - b);
  const middle = sizes[sizes.length >> 1] || 1;
  const bent = sizes.at(-1) > 100 * middle ? (value) => Math.asinh(value / middle) : (value) => value;
  const low = Math.min(...values.map(bent));
  const high = Math.max(...values.map(bent));
  return (value) => (high > low ? HEIGHT - 3 - ((bent(value) - low) / (high - low)) * (HEIGHT - 6) : HEIGHT / 2);
}
