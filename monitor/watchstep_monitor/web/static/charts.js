// All charts of a view, in groups: loaded when they come into sight, zoomed together, kept up to date.

import { Chart } from "./chart.js";
import { el, fill, tell } from "./dom.js";
import { fromLink, intoLink, remembered } from "./link.js";
import { MARKS, palette } from "./layers.js";
import { place, series, withNewer } from "./series.js";

const MOST_POINTS = 4000; // Beyond it a line that grew bit by bit is thinned by the service again.
const OPEN_CHARTS = 60; // Groups beyond it begin folded.
const AT_ONCE = 2; // The service reads series one after the other: asked for all, it ends all late.
const AXES = [["step", "Step"], ["time", "Time"], ["relative", "Time since the start"]];
const FILE_POINTS = 1_000_000;
const DASHES = [undefined, [6, 3], [2, 2], [8, 3, 2, 3]];
const COLOURS = 6;
const PINS = "watchstep-pins";

/** Runs to draw over each other, told apart by colour and dashes. */
export function sourcesOf(runs) {
  return runs.map((run, index) => ({
    run,
    read: (metric, query) => series(run, metric, query),
    label: runs.length > 1 ? run : "",
    colour: `trace-${(index % COLOURS) + 1}`,
    dash: DASHES[(index + Math.floor(index / COLOURS)) % DASHES.length],
  }));
}

/**
 * Charts of runs. `sources` are [{run, label, colour, dash, read}]; `read(metric, query)` gives points,
 * and `run` is missing for what is no run of the service. `about(metric)` gives {scale, marks, zone} of
 * now; `unit` is what steps are.
 */
export class Charts {
  constructor(sources, about, unit = "step") {
    const address = fromLink();
    const zoom = (address.get("zoom") || "").split("~").map(Number);
    Object.assign(this, { sources, about, groups: [], charts: new Map(), sections: new Map(), visible: new Set() });
    this.link = {
      axis: address.get("axis") || "step",
      range: zoom.length === 2 && zoom.every(Number.isFinite) ? zoom : null,
      whole: [0, 1],
      cursor: null,
      smoothing: Number(address.get("smooth")) || 0,
      unit,
      colour: palette(),
    };
    this.starts = new Map();
    this.find = address.get("find") || "";
    this.pinned = new Set(address.has("pin") ? address.getAll("pin") : remembered(PINS, []));
    this.scales = new Map(["log", "linear"].flatMap((kind) => address.getAll(kind).map((metric) => [metric, kind])));
    this.folds = new Map([...address.getAll("fold").map((name) => [name, false]), ...address.getAll("unfold").map((name) => [name, true])]);
    this.place = el("div", { class: "row-gap" });
    this.key = el("div", { class: "legend" });
    this.node = el("div", { class: "row-gap" }, this.controls(), this.key, this.place);
    this.legend();
    this.sight = new IntersectionObserver((seen) => this.saw(seen), { rootMargin: "250px" });
    new ResizeObserver(() => this.visible.forEach((chart) => chart.resize())).observe(this.place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.link.colour = palette();
      this.refresh();
    });
  }

  controls() {
    const find = el("input", { type: "search", value: this.find, placeholder: "Regular expression, such as loss|kl", oninput: () => {
      this.find = find.value.trim();
      this.arrange();
      this.note();
    } });
    const axis = el("select", { onchange: () => this.turn(axis.value) }, AXES.map(([value, label]) => el("option", { value }, label)));
    axis.value = this.link.axis;
    const smooth = el("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: this.link.smoothing, oninput: () => {
      this.link.smoothing = Number(smooth.value);
      this.redraw();
      this.note();
    } });
    this.reset = el("button", { type: "button", disabled: !this.link.range, onclick: () => this.zoom(null) }, "Reset zoom");
    return el("div", { class: "controls" },
      el("label", { class: "wide" }, "Find metrics", find),
      this.sources[0].run && el("label", {}, "Horizontal axis", axis),
      el("label", {}, "Smoothing", smooth),
      this.reset,
    );
  }

  legend() {
    const runs = this.sources.filter((source) => source.label).map((source) => el("span", {}, el("span", { class: `swatch ${source.colour} ${source.dash ? "dashed" : ""}` }), source.label));
    const marks = Object.values(MARKS).map(([sign, text]) => el("span", {}, el("i", { "aria-hidden": "true" }, sign), text));
    fill(this.key, runs, marks, el("span", {}, "Drag to zoom, double-click to reset; with the keyboard: arrows, +, - and 0"));
  }

  /** Draw other runs. */
  overlay(sources) {
    this.sources = sources;
    this.legend();
    this.charts.forEach((chart) => Object.assign(chart, { whole: null, points: null, stale: true, turn: (chart.turn || 0) + 1 }));
    this.visible.forEach((chart) => this.load(chart));
  }

  /** Show these groups, [{name, metrics}], in this order; charts that are there already stay. */
  order(groups) {
    this.groups = groups;
    this.arrange();
    if (answered) return;
    // The first one does not wait until the browser has laid out a hundred others.
    const first = this.charts.get(this.place.querySelector("[open] .chart")?.dataset.metric);
    if (first?.stale) this.load(first);
  }

  arrange() {
    const fits = matcher(this.find);
    const pins = { name: "Pinned", metrics: this.groups.flatMap((group) => group.metrics).filter((metric) => this.pinned.has(metric)) };
    let count = 0;
    const nodes = [pins, ...this.groups].map((group) => {
      const metrics = group.metrics.filter((metric) => fits(metric) && (group === pins || !this.pinned.has(metric)));
      if (metrics.length === 0) return null;
      count += metrics.length;
      return this.section(group.name, metrics, count <= OPEN_CHARTS || count === metrics.length || this.find !== "");
    }).filter(Boolean);
    if (nodes.length === 0) fill(this.place, el("p", { class: "quiet" }, "No metric fits."));
    else if (nodes.some((node, index) => this.place.children[index] !== node) || nodes.length !== this.place.children.length) fill(this.place, nodes);
  }

  section(name, metrics, open) {
    let section = this.sections.get(name);
    if (!section) {
      const count = el("span", { class: "quiet" });
      const grid = el("div", { class: "charts" });
      const node = el("details", { class: "group", open: this.folds.get(name) ?? open, ontoggle: () => this.folded(name, node) }, el("summary", {}, el("strong", {}, name), " ", count), grid);
      section = { node, grid, count, open: node.open };
      this.sections.set(name, section);
    }
    section.count.textContent = String(metrics.length);
    const nodes = metrics.map((metric) => this.chart(metric).node);
    if (nodes.some((node, index) => section.grid.children[index] !== node) || nodes.length !== section.grid.children.length) section.grid.replaceChildren(...nodes);
    return section.node;
  }

  folded(name, node) {
    if (node.open === this.sections.get(name)?.open) return;
    this.sections.get(name).open = node.open;
    this.folds.set(name, node.open);
    this.note();
  }

  chart(metric) {
    let chart = this.charts.get(metric);
    if (!chart) {
      chart = new Chart(metric, this.link, (changed, change) => this.changed(changed, change));
      chart.setScale(this.scales.get(metric) || "auto");
      chart.setPinned(this.pinned.has(metric));
      chart.stale = true;
      this.charts.set(metric, chart);
      this.sight.observe(chart.node);
    }
    return chart;
  }

  saw(seen) {
    for (const { target, isIntersecting } of seen) {
      const chart = this.charts.get(target.dataset.metric);
      if (!isIntersecting) this.visible.delete(chart);
      else {
        this.visible.add(chart);
        if (chart.stale) this.load(chart);
        else chart.draw();
      }
    }
  }

  changed(chart, change) {
    if ("scale" in change) {
      chart.setScale(change.scale);
      this.scales.set(chart.metric, change.scale);
      this.note();
    }
    if ("pinned" in change) this.pin(chart, change.pinned);
    if (change.csv) this.file(chart);
    if ("cursor" in change) this.link.cursor = change.cursor;
    if ("range" in change) this.zoom(change.range);
    else if ("cursor" in change) this.visible.forEach((each) => each.point());
  }

  pin(chart, pinned) {
    if (pinned) this.pinned.add(chart.metric);
    else this.pinned.delete(chart.metric);
    chart.setPinned(pinned);
    remembered(PINS, [], [...this.pinned]);
    this.arrange();
    this.note();
  }

  /** Save all readings of a chart, as far as the service gives them in one answer. */
  async file(chart) {
    try {
      const all = this.sources.map(async ({ read, run, label }) => ({ label: label || run || "", points: await read(chart.metric, { points: FILE_POINTS }) }));
      chart.csv(await Promise.all(all));
    } catch (error) {
      tell(error.message, "bad");
    }
  }

  turn(axis) {
    Object.assign(this.link, { axis, range: null, cursor: null, whole: [0, 1] });
    this.reset.disabled = true;
    this.refresh();
    this.note();
  }

  zoom(range) {
    const [from, to] = this.link.whole;
    const inside = range && [Math.max(from, range[0]), Math.min(to, range[1])];
    this.link.range = inside && inside[1] > inside[0] && inside[1] - inside[0] < (to - from) * 0.999 ? inside : null;
    this.reset.disabled = !this.link.range;
    this.visible.forEach((chart) => chart.view());
    // What a zoom shows was thinned for the whole: the service is asked for the part.
    this.charts.forEach((chart) => (chart.stale = true));
    clearTimeout(this.settled);
    this.settled = setTimeout(() => this.visible.forEach((chart) => this.load(chart)), 150);
    this.note();
  }

  /** Keep the view in the address. */
  note() {
    const { axis, smoothing, range } = this.link;
    const named = (map, value) => [...map].filter(([, each]) => each === value).map(([name]) => name);
    intoLink({
      axis: axis === "step" ? null : axis,
      smooth: smoothing || null,
      zoom: range && range.map((edge) => Number(edge.toPrecision(12))).join("~"),
      find: this.find,
      pin: [...this.pinned],
      log: named(this.scales, "log"),
      linear: named(this.scales, "linear"),
      fold: named(this.folds, false),
      unfold: named(this.folds, true),
    });
  }

  async load(chart) {
    chart.stale = false;
    const turn = (chart.turn = (chart.turn || 0) + 1);
    const current = () => turn === chart.turn;
    try {
      const read = await inTurn(current, () => this.read(chart));
      if (!current()) return;
      Object.assign(chart, read);
      this.present(chart);
    } catch (error) {
      chart.stale = true;
      if (chart.loaded) tell(error.message, "bad");
      else chart.hint.textContent = error.message;
    }
  }

  async read(chart) {
    const { sources } = this;
    const whole = chart.whole || (await Promise.all(sources.map((source) => source.read(chart.metric, {}))));
    whole.forEach((points, index) => this.started(sources[index], points[0]?.time));
    if (!this.link.range) return { whole, points: whole };
    const part = (points, source) => (points.thinned ? source.read(chart.metric, this.steps(points, source)) : points);
    return { whole, points: await Promise.all(whole.map((points, index) => part(points, sources[index]))) };
  }

  /** The steps that a zoom shows of a run; one reading beyond each end, so that lines go on. */
  steps(points, source) {
    const at = place(this.link.axis, this.starts.get(source.run));
    const [from, to] = this.link.range;
    const first = points.findLast((point) => at(point) <= from) || points[0];
    const last = points.find((point) => at(point) >= to) || points.at(-1);
    return { from_step: Math.max(0, Math.min(first.step, last.step)), to_step: Math.max(first.step, last.step) };
  }

  started(source, time) {
    if (!(time < (this.starts.get(source.run) ?? Infinity))) return;
    this.starts.set(source.run, time);
    if (this.link.axis === "relative") this.refresh();
  }

  /** Fetch what came since; call it when a run has moved on. */
  async advance() {
    this.charts.forEach((chart) => this.visible.has(chart) || Object.assign(chart, { stale: true, whole: null }));
    if (!this.link.range) await Promise.all([...this.visible].map((chart) => this.follow(chart)));
  }

  async follow(chart) {
    if (!chart.whole) return chart.stale ? this.load(chart) : undefined; // It is on its way.
    if (chart.whole.some((points) => points.length === 0 || points.length > MOST_POINTS)) {
      chart.whole = null;
      return this.load(chart);
    }
    const { turn } = chart;
    const points = await Promise.all(this.sources.map(({ run }, index) => withNewer(run, chart.metric, chart.whole[index])));
    if (turn !== chart.turn) return undefined;
    chart.points = chart.whole = points;
    return this.present(chart);
  }

  present(chart) {
    const traces = this.sources.map((source, index) => ({ ...source, points: chart.points[index], colour: this.link.colour(source.colour), start: this.starts.get(source.run) }));
    this.reach(chart);
    chart.take({ traces, ...this.about(chart.metric) });
  }

  /** All charts reach as far as the widest of them. */
  reach(chart) {
    const ends = (chart.whole || chart.points).flatMap((points, index) => {
      const at = place(this.link.axis, this.starts.get(this.sources[index].run));
      return points.length ? [at(points[0]), at(points.at(-1))] : [];
    }).filter(Number.isFinite);
    const before = this.link.axis === "time" && this.link.whole[1] === 1 ? [] : this.link.whole;
    const whole = [Math.min(...before, ...ends), Math.max(...before, ...ends)];
    if (ends.length === 0 || (whole[0] === this.link.whole[0] && whole[1] === this.link.whole[1])) return;
    this.link.whole = whole;
    if (!this.link.range) this.visible.forEach((each) => each.view());
  }

  /** Marks, zones or the axis have changed. */
  refresh() {
    this.charts.forEach((chart) => chart.points && this.present(chart));
  }

  redraw() {
    this.visible.forEach((chart) => chart.draw());
  }
}

function matcher(text) {
  try {
    const pattern = new RegExp(text, "i");
    return (metric) => pattern.test(metric);
  } catch {
    return (metric) => metric.toLowerCase().includes(text.toLowerCase()); // Half a pattern, so far.
  }
}

let busy = 0;
let answered = false; // The very first one goes alone, so that something is seen soon.
const waiting = [];

/** Do `work` when it is its turn; skipped, giving null, when it is not `current` any more. */
async function inTurn(current, work) {
  if (busy >= (answered ? AT_ONCE : 1)) await new Promise((resolve) => waiting.push(resolve));
  busy++;
  try {
    return current() ? await work() : null;
  } finally {
    busy--;
    answered = true;
    waiting.splice(0, AT_ONCE - busy).forEach((go) => go());
  }
}
