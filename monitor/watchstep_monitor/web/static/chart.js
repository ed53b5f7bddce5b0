// One chart: uPlot with the service's layers, keys, and the same numbers for those who do not see it.

import { el, fill } from "./dom.js";
import { number, span, tick, whole, zone as zonePill } from "./format.js";
import { marks, strange, thresholds, write, zones } from "./layers.js";
import { asCsv, lines, nearest, place, smoothed } from "./series.js";

const ROWS = 40;
const LEAST_DRAG_PX = 6;
const MOST_RATIO = 200; // Beyond this a straight axis shows the spike and nothing else.
const FONT = "11px system-ui, 'DejaVu Sans', sans-serif";
const SCALES = [["auto", "Auto"], ["linear", "Linear"], ["log", "Log"]];

/**
 * A chart of one metric. `link` is what all charts of a view share: {range, cursor, axis, unit,
 * smoothing, colour}; `changed(chart, change)` says what a person did: {range}, {cursor}, {scale},
 * {pinned} or {csv}.
 */
export class Chart {
  constructor(metric, link, changed) {
    Object.assign(this, { metric, link, changed: (change) => changed(this, change) });
    this.traces = [];
    this.scale = { zones: [], thresholds: [] };
    this.marks = [];
    this.kind = "auto";
    this.loaded = false;
    this.value = el("span", { class: "value" });
    this.plot = el("div", { class: "plot", tabindex: 0, role: "slider", "aria-label": `${metric} over ${link.unit}s`, "aria-valuenow": 0, "aria-valuetext": "not loaded yet", onkeydown: (event) => this.key(event), onblur: () => this.changed({ cursor: null }) });
    this.hint = el("p", { class: "hint" }, "Loading");
    this.rows = el("div", { tabindex: 0, role: "region", "aria-label": `Readings of ${metric}` });
    this.table = el("details", { ontoggle: () => this.fillTable() }, el("summary", {}, "Table and files"));
    this.pin = el("button", { type: "button", class: "pin", "aria-pressed": "false", "aria-label": `Pin ${metric}`, title: "Pinned charts come first", onclick: () => this.changed({ pinned: this.pin.getAttribute("aria-pressed") !== "true" }) }, "☆");
    this.node = el("section", { class: "panel chart", "aria-label": metric, "data-metric": metric },
      el("header", {}, this.pin, el("h3", {}, metric), this.value),
      this.plot,
      this.hint,
      this.table,
    );
  }

  tools() {
    const scale = el("select", { "aria-label": `Vertical scale of ${this.metric}`, onchange: () => this.changed({ scale: scale.value }) }, SCALES.map(([value, label]) => el("option", { value, selected: value === this.kind }, label)));
    return el("div", { class: "row" },
      el("label", {}, "Scale ", scale),
      el("button", { type: "button", class: "small", onclick: () => this.changed({ csv: true }) }, "CSV"),
      el("button", { type: "button", class: "small", onclick: () => this.png() }, "PNG"),
    );
  }

  /** Show these; `traces` are [{label, points, colour, dash, start}], points oldest first. */
  take({ traces, scale, marks: events, zone }) {
    const placed = traces.map((trace) => ({ ...trace, at: place(this.link.axis, trace.start) }));
    const at = place(this.link.axis, traces[0]?.start);
    Object.assign(this, { traces: placed, scale, marks: events.map((mark) => ({ ...mark, x: at(mark) })), loaded: true });
    const last = traces[0]?.points.at(-1);
    fill(this.value, last ? number(last.value) : "", " ", zone && zonePill(zone));
    this.node.dataset.loaded = String(traces.reduce((sum, trace) => sum + trace.points.length, 0));
    this.draw();
    if (this.table.open) this.fillTable();
  }

  setScale(kind) {
    this.kind = kind;
    this.draw();
  }

  setPinned(pinned) {
    this.pin.setAttribute("aria-pressed", String(pinned));
    this.pin.textContent = pinned ? "★" : "☆";
  }

  draw() {
    if (!this.loaded) return;
    const strands = this.traces.flatMap((trace) => lines(trace.points.filter((point) => Number.isFinite(trace.at(point))), trace.at).map((line) => ({ ...trace, line })));
    const weight = this.link.smoothing;
    const drawn = weight ? strands.flatMap((strand) => [{ ...strand, behind: true }, { ...strand, line: smoothed(strand.line, weight) }]) : strands;
    const data = drawn.length ? uPlot.join(drawn.map(({ line }) => line)) : [[], []];
    const scale = verticalScale(this.traces.flatMap(({ points }) => points.map((point) => point.value)), this.kind);
    const look = JSON.stringify([scale, this.link.axis, drawn.map(({ colour, dash, behind }) => [colour, dash, behind])]);
    const size = { width: Math.max(120, this.plot.clientWidth), height: this.plot.clientHeight };
    if (this.u && this.look === look) {
      this.u.setData(data, false);
    } else {
      this.u?.destroy();
      this.look = look;
      this.u = new uPlot({ ...size, ...this.options(scale, drawn) }, data, this.plot);
    }
    this.resize(size);
    this.view();
  }

  resize(size = { width: Math.max(120, this.plot.clientWidth), height: this.plot.clientHeight }) {
    if (this.u && (this.u.width !== size.width || this.u.height !== size.height)) this.u.setSize(size);
  }

  options(scale, drawn) {
    const { colour, axis, unit } = this.link;
    const look = { stroke: () => colour("quiet"), font: FONT, ticks: { show: false } };
    const lines = { stroke: () => colour("grid"), width: 1 };
    const words = axis === "time" ? {} : { values: (_, splits) => splits.map((split) => (split === null ? "" : axis === "relative" ? span(split) : tick(split))) };
    return {
      legend: { show: false },
      padding: [16, 10, 0, 0],
      scales: { x: { time: axis === "time", range: () => this.range() }, y: scale },
      axes: [
        { ...look, ...words, grid: { show: false }, size: 26, space: 70, label: axis === "step" && unit !== "step" ? unit : undefined, labelSize: 14 },
        { ...look, grid: lines, size: (_, labels) => Math.max(54, 14 + 7 * Math.max(...(labels || []).map((label) => label.length))), space: 32, ...(scale.distr && { splits: decades, filter: (_, splits) => splits }), values: (_, splits) => splits.map((split) => (split === null ? "" : tick(split, scale.distr ? 0 : splits[1] - splits[0]))) },
      ],
      series: [{}, ...drawn.map((strand) => ({
        stroke: strand.colour,
        width: strand.behind ? 1 : 1.6,
        alpha: strand.behind ? 0.35 : 1,
        dash: strand.dash,
        points: { show: false, filter: lonely, size: 4 },
      }))],
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false, dist: LEAST_DRAG_PX },
        bind: { dblclick: () => () => this.changed({ range: null }) },
        points: { size: 7 },
      },
      hooks: {
        drawClear: [(u) => (this.zoneNames = zones(u, this.scale, colour))],
        drawAxes: [(u) => thresholds(u, this.scale, colour)],
        draw: [(u) => {
          marks(u, this.marks, colour);
          strange(u, this.traces, colour);
          this.zoneNames.forEach(([name, left, top]) => write(u, name, left, top, colour("quiet")));
        }],
        ready: [(u) => {
          u.over.addEventListener("pointermove", (event) => this.changed({ cursor: u.posToVal(event.offsetX, "x") }));
          u.over.addEventListener("pointerleave", () => this.changed({ cursor: null }));
        }],
        setSelect: [(u) => this.selected(u)],
      },
    };
  }

  selected(u) {
    const { left, width } = u.select;
    if (width < LEAST_DRAG_PX) return;
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.changed({ range: [u.posToVal(left, "x"), u.posToVal(left + width, "x")] });
  }

  range() {
    const [from, to] = this.link.range || this.link.whole;
    return to > from ? [from, to] : [from - 0.5, from + 0.5];
  }

  /** The shared range and cursor, drawn and in words. */
  view() {
    if (!this.u) return;
    const [min, max] = this.range();
    this.u.batch(() => this.u.setScale("x", { min, max }));
    this.point();
  }

  point() {
    if (!this.u) return;
    const [min, max] = this.range();
    const x = this.link.cursor;
    const left = x === null || x < min || x > max ? -10 : this.u.valToPos(x, "x");
    this.u.setCursor({ left, top: left < 0 ? -10 : this.u.over.clientHeight / 2 }, false);
    const points = this.traces.flatMap((trace) => trace.points);
    const text = points.length === 0 ? "No readings here" : x === null ? this.summary(points) : this.words(x);
    if (this.hint.textContent !== text) this.hint.textContent = text;
    this.plot.setAttribute("aria-valuemin", min);
    this.plot.setAttribute("aria-valuemax", max);
    this.plot.setAttribute("aria-valuenow", x ?? max);
    this.plot.setAttribute("aria-valuetext", text);
  }

  summary(points) {
    const finite = points.map((point) => point.value).filter(Number.isFinite);
    const low = finite.reduce((a, b) => Math.min(a, b), Infinity);
    const high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
    const range = finite.length ? `${number(low)} to ${number(high)}` : "no finite reading";
    const least = this.traces.some((trace) => trace.points.thinned) ? "at least " : "";
    const count = points.length - finite.length;
    return count ? `${range}; ${least}${whole(count)} not finite` : range;
  }

  words(x) {
    const [min, max] = this.range();
    const near = (max - min) / 80;
    const readings = this.traces.map((trace) => {
      const point = nearest(trace.points, trace.at, x);
      if (!point) return null;
      const name = trace.label ? `${trace.label}: ` : point.seq === undefined ? "" : `update ${whole(point.seq)}, `;
      return `${name}${this.link.unit} ${whole(point.step)}: ${number(point.value)}`;
    });
    const mark = this.marks.find((each) => Math.abs(each.x - x) <= near);
    const drawn = this.scale.thresholds.filter((threshold) => threshold.severity !== "info").slice(0, 3);
    return [...readings, mark?.text, ...drawn.map(({ rule, op, value }) => `${rule} ${op} ${tick(value)}`)].filter(Boolean).join(" · ");
  }

  fillTable() {
    if (!this.table.open) return;
    if (!this.rows.isConnected) this.table.append(this.tools(), this.rows); // Most charts are never unfolded.
    this.draw();
    const named = Boolean(this.traces[0]?.label);
    const counted = this.traces[0]?.points[0]?.seq !== undefined;
    const unit = this.link.unit[0].toUpperCase() + this.link.unit.slice(1);
    const head = [named && "Run", counted && "Update", unit, "Reading"].filter(Boolean);
    const row = (trace, point) => el("tr", {},
      named && el("td", {}, trace.label),
      counted && el("td", { class: "num" }, whole(point.seq)),
      el("td", { class: "num" }, whole(point.step)),
      el("td", { class: "num" }, number(point.value)),
    );
    fill(this.rows, el("table", {},
      el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col", class: name !== "Run" && "num" }, name)))),
      el("tbody", {}, this.traces.flatMap((trace) => trace.points.slice(-ROWS).reverse().map((point) => row(trace, point)))),
    ));
  }

  /** The chart as a picture, with its name and on the page's colour. */
  png() {
    if (!this.u) return; // Not loaded yet.
    const { canvas } = this.u.ctx;
    const room = 24 * uPlot.pxRatio;
    const sheet = el("canvas", { width: canvas.width, height: canvas.height + room });
    const brush = sheet.getContext("2d");
    brush.fillStyle = this.link.colour("surface");
    brush.fillRect(0, 0, sheet.width, sheet.height);
    brush.fillStyle = this.link.colour("ink");
    brush.font = `${13 * uPlot.pxRatio}px system-ui, 'DejaVu Sans', sans-serif`;
    const runs = this.traces.map((trace) => trace.label).filter(Boolean);
    brush.fillText([this.metric, ...runs].join("   "), 8 * uPlot.pxRatio, 17 * uPlot.pxRatio);
    brush.drawImage(canvas, 0, room);
    sheet.toBlob((blob) => save(`${this.metric}.png`, blob));
  }

  csv(traces) {
    save(`${this.metric}.csv`, new Blob([asCsv(traces)], { type: "text/csv" }));
  }

  key(event) {
    const [from, to] = this.range();
    const size = to - from;
    const at = this.link.cursor ?? to;
    const narrow = { range: [at - size / 4, at + size / 4], cursor: at };
    const moves = {
      ArrowLeft: () => this.walk(-1),
      ArrowRight: () => this.walk(1),
      PageUp: () => ({ cursor: Math.max(from, at - size / 10) }),
      PageDown: () => ({ cursor: Math.min(to, at + size / 10) }),
      Home: () => ({ cursor: from }),
      End: () => ({ cursor: to }),
      "+": () => narrow,
      "=": () => narrow,
      "-": () => ({ range: [from - size / 2, to + size / 2] }),
      0: () => ({ range: null }),
      Escape: () => ({ range: null, cursor: null }),
    };
    if (!moves[event.key] || !this.loaded || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.changed(moves[event.key]());
    this.point(); // Keys reach a chart that was scrolled to a moment ago and does not count as seen yet.
  }

  /** One reading on or back. */
  walk(direction) {
    const [from, to] = this.range();
    const { points = [], at } = this.traces[0] || {};
    const inside = points.filter((point) => at(point) >= from && at(point) <= to);
    if (inside.length === 0) return {};
    if (this.link.cursor === null) return { cursor: at(inside.at(-1)) };
    const index = inside.indexOf(nearest(inside, at, this.link.cursor)) + direction;
    return { cursor: at(inside[Math.min(inside.length - 1, Math.max(0, index))]) };
  }
}

/** A reading between two gaps has no line: it is drawn as a point. */
function lonely(u, index) {
  const ys = u.data[index];
  const alone = [];
  let before = null;
  let candidate = null;
  ys.forEach((y, at) => {
    if (y === undefined) return;
    if (candidate !== null && y === null) alone.push(candidate);
    candidate = y !== null && before === null ? at : null;
    before = y;
  });
  if (candidate !== null) alone.push(candidate);
  return alone.length ? alone : null;
}

/** Powers of ten of both signs and zero, not more than about six of them. */
function decades(u, _, min, max) {
  const size = Math.max(Math.abs(min), Math.abs(max));
  const least = min > 0 ? min : Math.max(u.scales.y.asinh, size / 1e12);
  const [first, last] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(size))];
  const stride = Math.max(1, Math.ceil((last - first) / (min < 0 && max > 0 && -min > least && max > least ? 3 : 6)));
  const powers = [];
  for (let power = last; power >= first; power -= stride) powers.unshift(10 ** power);
  const splits = min > 0 ? powers : [...powers.map((power) => -power).reverse(), 0, ...powers];
  if (min > 0) return splits.filter((split) => split >= min && split <= max);
  // Zero says the most where ticks crowd around it.
  const place = (split) => Math.asinh(split / u.scales.y.asinh);
  const room = ((place(max) - place(min)) * 14) / u.height;
  return splits.filter((split) => split >= min && split <= max && (split === 0 || Math.abs(place(split)) > room));
}

/** Straight unless readings run over decades; what is not above zero is straight around zero. */
function verticalScale(values, kind) {
  const finite = values.filter(Number.isFinite);
  const sizes = finite.map(Math.abs).sort((a, b) => a - b);
  const low = finite.reduce((a, b) => Math.min(a, b), Infinity);
  const high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
  const middle = sizes[sizes.length >> 1];
  const wild = sizes.at(-1) > MOST_RATIO * middle || (low > 0 && high > MOST_RATIO * low);
  if (sizes.length === 0 || kind === "linear" || (kind === "auto" && !wild)) return {};
  if (low > 0) return { distr: 3 };
  return { distr: 4, asinh: 10 ** Math.floor(Math.log10(middle || sizes.at(-1) / 1e6 || 1)) };
}

/** Hand over a file that was made here. */
export function save(name, blob) {
  const address = URL.createObjectURL(blob);
  el("a", { href: address, download: name.replaceAll("/", "_") }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
