// One chart: a canvas, its pointer and keys, and the same numbers for those who do not see it.

import { el, fill } from "./dom.js";
import { number, whole, zone as zonePill } from "./format.js";
import { nearest, paint } from "./paint.js";

const LEAST_DRAG_PX = 6;
const ROWS = 40;

/**
 * A chart of one metric. `link` is shared by all charts of a view: {range, cursor, kind, unit,
 * colour}; `moved(change)` says what a person did with one of them.
 */
export class Chart {
  constructor(metric, link, moved) {
    this.metric = metric;
    this.link = link;
    this.moved = moved;
    this.traces = [];
    this.scale = { zones: [], thresholds: [] };
    this.marks = [];
    this.selection = null;
    this.loaded = false;
    this.value = el("span", { class: "value" });
    this.canvas = el("canvas", { tabindex: 0, role: "slider", "aria-label": `${metric} over ${link.unit}s`, "aria-valuenow": 0, "aria-valuetext": "not loaded yet" });
    this.hint = el("p", { class: "hint" }, "Loading");
    this.rows = el("div", { tabindex: 0, role: "region", "aria-label": `Readings of ${metric}` });
    this.table = el("details", { ontoggle: () => this.fillTable() }, el("summary", {}, "As a table"), this.rows);
    this.node = el("section", { class: "panel chart", "aria-label": metric, "data-metric": metric }, el("header", {}, el("h3", {}, metric), this.value), this.canvas, this.hint, this.table);
    this.attend();
  }

  /** Show these; `traces` are [{label, points, colour, dash}], points oldest first. */
  take({ traces, scale, marks }) {
    Object.assign(this, { traces, scale, marks, loaded: true });
    this.node.dataset.loaded = String(traces.reduce((sum, trace) => sum + trace.points.length, 0));
    this.describe();
    this.redraw();
    if (this.table.open) this.fillTable();
  }

  latest(zone) {
    const last = this.traces[0]?.points.at(-1);
    fill(this.value, last ? number(last.value) : "", " ", zone && zonePill(zone));
  }

  redraw() {
    if (!this.loaded || this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.plan = paint(this.canvas, { ...this.link, traces: this.traces, ...this.scale, marks: this.marks, selection: this.selection }, this.link.colour);
    });
  }

  /** Words for what is under the cursor, or for the whole of it. */
  describe() {
    const points = this.traces.flatMap((trace) => trace.points);
    const step = this.link.cursor;
    const [from, to] = this.link.range;
    this.canvas.setAttribute("aria-valuemin", from);
    this.canvas.setAttribute("aria-valuemax", to);
    this.canvas.setAttribute("aria-valuenow", step ?? to);
    const text = points.length === 0 ? "No readings here" : step === null ? this.summary(points) : this.at(step);
    if (this.hint.textContent !== text) this.hint.textContent = text;
    this.canvas.setAttribute("aria-valuetext", text);
  }

  summary(points) {
    const strange = points.filter((point) => !Number.isFinite(point.value)).length;
    const finite = points.map((point) => point.value).filter(Number.isFinite);
    const low = finite.reduce((a, b) => Math.min(a, b), Infinity);
    const high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
    const range = finite.length ? `${number(low)} to ${number(high)}` : "no finite reading";
    const least = this.traces.some((trace) => trace.points.thinned) ? "at least " : "";
    return strange ? `${range}; ${least}${whole(strange)} not finite` : range;
  }

  at(step) {
    const told = this.traces.map((trace) => {
      const point = nearest(trace.points, step);
      if (!point) return null;
      const name = trace.label ? `${trace.label}: ` : point.seq === undefined ? "" : `update ${whole(point.seq)}, `;
      return `${name}${this.link.unit} ${whole(point.step)}: ${number(point.value)}`;
    });
    const mark = this.marks.find((one) => Math.abs(one.step - step) <= (this.link.range[1] - this.link.range[0]) / 80);
    return [...told, mark?.text].filter(Boolean).join(" · ");
  }

  fillTable() {
    if (!this.table.open) return;
    const body = this.traces.flatMap((trace) =>
      trace.points.slice(-ROWS).reverse().map((point) =>
        el("tr", {}, trace.label && el("td", {}, trace.label), point.seq !== undefined && el("td", { class: "num" }, whole(point.seq)), el("td", { class: "num" }, whole(point.step)), el("td", { class: "num" }, number(point.value))),
      ),
    );
    const head = [this.traces[0]?.label && "Run", this.traces[0]?.points[0]?.seq !== undefined && "Update", this.link.unit[0].toUpperCase() + this.link.unit.slice(1), "Reading"].filter(Boolean);
    fill(this.rows, el("table", {}, el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col", class: name !== "Run" && "num" }, name)))), el("tbody", {}, body)));
  }

  attend() {
    const { canvas } = this;
    const step = (event) => this.plan.step(event.clientX - canvas.getBoundingClientRect().left);
    let pressed = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.plan || event.button !== 0) return;
      pressed = { x: event.clientX, step: step(event) };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.plan) return;
      const dragged = pressed && Math.abs(event.clientX - pressed.x) >= LEAST_DRAG_PX;
      this.selection = dragged ? [pressed.step, step(event)] : null;
      this.moved({ cursor: step(event) });
    });
    canvas.addEventListener("pointerup", () => {
      const chosen = this.selection;
      pressed = this.selection = null;
      if (chosen) this.moved({ range: chosen.sort((a, b) => a - b) });
    });
    canvas.addEventListener("pointercancel", () => {
      pressed = this.selection = null;
      this.redraw();
    });
    canvas.addEventListener("pointerleave", () => pressed || this.moved({ cursor: null }));
    canvas.addEventListener("dblclick", () => this.moved({ range: null }));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.moved({ cursor: null }));
  }

  key(event) {
    const [from, to] = this.link.range;
    const size = to - from;
    const at = this.link.cursor ?? to;
    const narrow = [at - size / 4, at + size / 4];
    const moves = {
      ArrowLeft: () => this.walk(-1),
      ArrowRight: () => this.walk(1),
      PageUp: () => ({ cursor: Math.max(from, at - size / 10) }),
      PageDown: () => ({ cursor: Math.min(to, at + size / 10) }),
      Home: () => ({ cursor: from }),
      End: () => ({ cursor: to }),
      "+": () => ({ range: narrow, cursor: at }),
      "=": () => ({ range: narrow, cursor: at }),
      "-": () => ({ range: [from - size / 2, to + size / 2] }),
      0: () => ({ range: null }),
      Escape: () => ({ range: null, cursor: null }),
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    this.moved(moves[event.key]());
    // Keys reach a chart that was scrolled to a moment ago and does not count as seen yet.
    this.describe();
    this.redraw();
  }

  /** One reading on or back. */
  walk(direction) {
    const [from, to] = this.link.range;
    const points = (this.traces[0]?.points || []).filter((point) => point.step >= from && point.step <= to);
    if (points.length === 0) return {};
    if (this.link.cursor === null) return { cursor: points.at(-1).step };
    const index = points.indexOf(nearest(points, this.link.cursor)) + direction;
    return { cursor: points[Math.min(points.length - 1, Math.max(0, index))].step };
  }
}
