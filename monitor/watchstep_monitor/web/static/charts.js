// All charts of a view: loaded when they come into sight, zoomed together, kept up to date.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { el, fill, tell } from "./dom.js";
import { reading } from "./format.js";
import { MARKS, palette } from "./paint.js";

const POINTS = 1000; // About two a pixel of a chart; a zoom asks for the part anew.
const MOST_POINTS = 4000; // Beyond it a trace that grew by and by is thinned by the service again.
const FIRST_SHOWN = 12;
const AT_ONCE = 2; // The service reads series one after the other: asked for all, it ends all late.
const KINDS = [["auto", "Auto"], ["linear", "Linear"], ["log", "Log"]];

/**
 * Charts of one or two runs. `sources` are [{run, label, colour, dash}] (colour a style name), or
 * {read, label, ...} where `read(metric, query)` gives the points of what is no run of the service.
 * `about(metric)` gives {scale, marks, zone} of now; `extent()` the greatest step;
 * `unit` what steps are.
 */
export class Charts {
  constructor(sources, about, extent, unit = "step") {
    Object.assign(this, { sources, about, extent });
    this.link = { range: [0, Math.max(1, extent())], cursor: null, kind: "auto", unit, colour: palette() };
    this.zoomed = false;
    this.charts = new Map();
    this.visible = new Set();
    this.shown = FIRST_SHOWN;
    this.filter = "";
    this.grid = el("div", { class: "charts" });
    this.more = el("div", { class: "row" });
    this.reset = el("button", { type: "button", disabled: true, onclick: () => this.moved({ range: null }) }, "Reset zoom");
    this.node = el("div", { class: "row-gap" }, this.controls(), this.legend(), this.grid, this.more);
    this.sight = new IntersectionObserver((seen) => this.saw(seen), { rootMargin: "250px" });
    this.size = new ResizeObserver(() => this.redraw());
    this.size.observe(this.grid);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.link.colour = palette();
      this.charts.forEach((chart) => this.present(chart));
    });
  }

  controls() {
    const find = el("input", { type: "search", placeholder: "Part of a name", oninput: () => {
      this.filter = find.value.trim().toLowerCase();
      this.arrange();
    } });
    const kinds = KINDS.map(([kind, label]) => el("button", { type: "button", "data-kind": kind, "aria-pressed": String(kind === "auto"), onclick: () => this.turn(kind) }, label));
    this.kinds = kinds;
    return el("div", { class: "controls" },
      el("label", { class: "wide" }, "Metric", find),
      el("div", { class: "chips", role: "group", "aria-label": "Vertical scale" }, kinds),
      this.reset,
    );
  }

  legend() {
    const marks = Object.values(MARKS).map(([sign, text]) => el("span", {}, el("i", { "aria-hidden": "true" }, sign), text));
    const runs = this.sources.filter((one) => one.label).map((one) => el("span", {}, el("span", { class: `swatch ${one.dash ? "second" : ""}` }), one.label));
    return el("div", { class: "legend" }, runs, marks, el("span", {}, "Drag to zoom, double-click to reset; with the keyboard: arrows, +, - and 0"));
  }

  turn(kind) {
    this.link.kind = kind;
    this.kinds.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.kind === kind)));
    this.redraw();
  }

  /** Show these metrics, in this order; charts that are there already stay. */
  order(metrics) {
    if (this.metrics?.join("\n") === metrics.join("\n")) return;
    this.metrics = metrics;
    this.arrange();
  }

  arrange() {
    const fitting = this.metrics.filter((metric) => metric.toLowerCase().includes(this.filter));
    const wanted = fitting.slice(0, this.shown).map((metric) => this.chart(metric));
    const nodes = wanted.map((chart) => chart.node);
    if (nodes.some((node, index) => this.grid.children[index] !== node) || nodes.length !== this.grid.children.length) fill(this.grid, nodes);
    const hidden = fitting.length - wanted.length;
    fill(this.more, hidden > 0 && el("button", { type: "button", onclick: () => {
      this.shown = Infinity;
      this.arrange();
    } }, `Show ${hidden} more`), fitting.length === 0 && el("p", { class: "quiet" }, "No metric fits."));
  }

  chart(metric) {
    let chart = this.charts.get(metric);
    if (!chart) {
      chart = new Chart(metric, this.link, (change) => this.moved(change));
      chart.points = this.sources.map(() => []);
      this.charts.set(metric, chart);
      this.sight.observe(chart.node);
    }
    return chart;
  }

  saw(seen) {
    for (const one of seen) {
      const chart = this.charts.get(one.target.dataset.metric);
      if (one.isIntersecting) this.visible.add(chart);
      else this.visible.delete(chart);
      if (one.isIntersecting && chart.stale !== false) this.load(chart);
    }
  }

  moved(change) {
    if ("cursor" in change) this.link.cursor = change.cursor;
    if ("range" in change) this.zoom(change.range);
    for (const chart of this.visible) {
      if (chart.loaded) chart.describe();
      chart.redraw();
    }
  }

  zoom(range) {
    const all = [0, Math.max(1, this.extent())];
    const inside = range && [Math.max(all[0], range[0]), Math.min(all[1], range[1])];
    this.zoomed = Boolean(inside) && inside[1] - inside[0] < all[1] * 0.999;
    this.link.range = this.zoomed ? inside : all;
    this.reset.disabled = !this.zoomed;
    // What a zoom shows was thinned for the whole: the service is asked for the part.
    this.charts.forEach((chart) => (chart.stale = true));
    clearTimeout(this.settled);
    this.settled = setTimeout(() => this.visible.forEach((chart) => this.load(chart)), 150);
  }

  async load(chart) {
    chart.stale = false;
    const range = this.zoomed ? { from_step: Math.floor(this.link.range[0]), to_step: Math.ceil(this.link.range[1]) } : {};
    const asked = (chart.asked = (chart.asked || 0) + 1);
    const current = () => asked === chart.asked;
    try {
      const found = await inTurn(current, () => Promise.all(this.sources.map((source) => (source.read || stored(source.run))(chart.metric, { ...range, points: POINTS }))));
      if (!current()) return;
      chart.points = found;
      this.present(chart);
    } catch (error) {
      chart.stale = true;
      if (chart.loaded) tell(error.message, "bad");
      else chart.hint.textContent = error.message;
    }
  }

  /** Fetch what came since; call it when the run has moved on. */
  async advance() {
    if (this.zoomed) return;
    this.link.range = [0, Math.max(1, this.extent())];
    this.charts.forEach((chart) => this.visible.has(chart) || (chart.stale = true));
    await Promise.all([...this.visible].map((chart) => this.follow(chart)));
  }

  async follow(chart) {
    if (!chart.loaded && chart.stale === false) return undefined; // It is on its way.
    if (!chart.loaded || chart.points.some((points) => points.length === 0 || points.length > MOST_POINTS)) return this.load(chart);
    const asked = chart.asked;
    const found = await Promise.all(this.sources.map((source, index) => newer(source.run, chart.metric, chart.points[index])));
    if (asked !== chart.asked) return undefined;
    chart.points = found;
    return this.present(chart);
  }

  present(chart) {
    const { scale, marks, zone } = this.about(chart.metric);
    const traces = this.sources.map((source, index) => ({ label: source.label, points: chart.points[index], colour: this.link.colour(source.colour), dash: source.dash }));
    chart.take({ traces, scale, marks });
    chart.latest(zone);
  }

  /** Marks or zones have changed. */
  refresh() {
    this.charts.forEach((chart) => chart.loaded && this.present(chart));
  }

  redraw() {
    this.charts.forEach((chart) => chart.redraw());
  }
}

let busy = 0;
let answered = false; // The very first one goes alone, so that something is seen soon.
const waiting = [];

/** Do `work` when it is its turn; skipped, giving null, when it is not `wanted` any more. */
async function inTurn(wanted, work) {
  if (busy >= (answered ? AT_ONCE : 1)) await new Promise((resolve) => waiting.push(resolve));
  busy++;
  try {
    return wanted() ? await work() : null;
  } finally {
    busy--;
    answered = true;
    waiting.splice(0, AT_ONCE - busy).forEach((go) => go());
  }
}

function stored(run) {
  return (metric, query) => series(run, metric, query);
}

async function series(run, metric, query) {
  const found = await get(`/api/v1/runs/${encodeURIComponent(run)}/series`, { metric, ...query });
  const points = found.points.map((point) => ({ ...point, value: reading(point.value) }));
  return Object.assign(points, { thinned: found.thinned }); // What is left out was never counted.
}

async function newer(run, metric, known) {
  const last = known.at(-1);
  const found = await series(run, metric, { from_step: last.step, points: POINTS });
  const fresh = found.filter((point) => point.attempt > last.attempt || (point.attempt === last.attempt && point.seq > last.seq));
  return fresh.length ? Object.assign([...known, ...fresh], { thinned: known.thinned || found.thinned }) : known;
}
