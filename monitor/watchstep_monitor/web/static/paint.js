// Draws one chart on a canvas: zones, thresholds, traces, marks, and what was no number.

import { even, tick, vertical } from "./axis.js";

export const MARKS = {
  halt: ["■", "halt"],
  failed: ["✕", "failed"],
  critical: ["▲", "critical alert"],
  skip: ["⊘", "step skipped"],
  warning: ["△", "warning"],
  checkpoint: ["◆", "checkpoint pinned"],
  attempt: ["↻", "new attempt"],
};
const ORDER = Object.keys(MARKS);
const FONT = "11px system-ui, 'DejaVu Sans', sans-serif";
const GRAVE = ["halt", "failed", "critical"];
const LEFT = 52;
const RIGHT = 8;
const TOP = 18;
const BOTTOM = 20;
const MARK_ROOM = 13;
const LEAST_TICK_PX = 15;

/** Where a chart's plot lies in its canvas, and how steps map to pixels. */
export function geometry(width, height, [from, to]) {
  const box = { left: LEFT, top: TOP, width: Math.max(1, width - LEFT - RIGHT), height: Math.max(1, height - TOP - BOTTOM) };
  const size = to > from ? to - from : 1;
  return {
    box,
    x: (step) => box.left + ((step - from) / size) * box.width,
    step: (x) => from + ((x - box.left) / box.width) * size,
  };
}

/** Colours as the style sheet has them now; asked anew when light turns to dark. */
export function palette() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

/**
 * Draw. `model`: traces [{points, colour, dash}], zones, thresholds, marks, range, kind, cursor,
 * selection. Gives the geometry, for whoever asks what lies under a finger.
 */
export function paint(canvas, model, colour) {
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const brush = canvas.getContext("2d");
  brush.scale(ratio, ratio);
  brush.font = FONT;
  const plan = geometry(width, height, model.range);
  const inside = model.traces.flatMap((trace) => trace.points.filter((point) => within(point.step, model.range)));
  const scale = vertical(inside.map((point) => point.value), model.kind);
  const y = (value) => plan.box.top + plan.box.height * (1 - scale.part(value));
  const scene = { brush, colour, plan, scale, y, model };
  const words = zones(scene);
  grid(scene);
  brush.save();
  brush.beginPath();
  brush.rect(plan.box.left, 0, plan.box.width, plan.box.top + plan.box.height);
  brush.clip();
  thresholds(scene);
  marks(scene);
  words.forEach(([text, x, at]) => haloed(scene, text, x, at, "quiet", "left"));
  model.traces.forEach((trace) => drawTrace(scene, trace));
  strange(scene);
  pointer(scene);
  brush.restore();
  signs(scene);
  return plan;
}

function within(step, [from, to]) {
  return step >= from && step <= to;
}

/** Shade the zones; gives their names, and where these belong. */
function zones({ brush, colour, plan, y, model }) {
  const { left, top, width, height } = plan.box;
  const words = [];
  for (const zone of model.zones) {
    if (zone.zone === "ok") continue;
    const high = zone.to === null ? top : clamp(y(zone.to), top, top + height);
    const low = zone.from === null ? top + height : clamp(y(zone.from), top, top + height);
    if (low - high < 1) continue;
    brush.globalAlpha = Number(colour(zone.zone === "critical" ? "band-critical" : "band"));
    brush.fillStyle = colour(`zone-${zone.zone}`);
    brush.fillRect(left, high, width, low - high);
    brush.globalAlpha = 1;
    if (zone.zone === "critical") hatch(brush, left, high, width, low - high, colour("zone-critical"));
    // At the left, where a run is usually still well and nothing lies over the word.
    if (low - high > 17) words.push([zone.zone, left + 5, high + 9]);
  }
  return words;
}

/** Text that stays readable over lines. */
function haloed({ brush, colour }, text, x, y, ink, align) {
  brush.textAlign = align;
  brush.textBaseline = "middle";
  brush.lineJoin = "round";
  brush.lineWidth = 3;
  brush.globalAlpha = 0.75;
  brush.strokeStyle = colour("surface");
  brush.strokeText(text, x, y);
  brush.globalAlpha = 1;
  brush.fillStyle = colour(ink);
  brush.fillText(text, x, y);
}

/** Strokes, so that the worst zone is told from the others without seeing its colour. */
function hatch(brush, left, top, width, height, stroke) {
  brush.save();
  brush.beginPath();
  brush.rect(left, top, width, height);
  brush.clip();
  brush.beginPath();
  for (let x = left - height; x < left + width; x += 9) {
    brush.moveTo(x, top + height);
    brush.lineTo(x + height, top);
  }
  brush.globalAlpha = 0.16;
  brush.strokeStyle = stroke;
  brush.lineWidth = 1;
  brush.stroke();
  brush.restore();
}

function grid({ brush, colour, plan, scale, y, model }) {
  const { left, top, width, height } = plan.box;
  brush.lineWidth = 1;
  brush.strokeStyle = colour("grid");
  brush.fillStyle = colour("quiet");
  brush.textAlign = "right";
  brush.textBaseline = "middle";
  const named = [];
  // 0 comes first: where ticks crowd around it, it is the one that says the most.
  for (const value of scale.ticks().sort((a, b) => Number(b === 0) - Number(a === 0) || a - b)) {
    const at = Math.round(y(value)) + 0.5;
    if (at < top || at > top + height || named.some((other) => Math.abs(other - at) < LEAST_TICK_PX)) continue;
    named.push(at);
    line(brush, left, at, left + width, at);
    brush.fillText(tick(value), left - 6, at);
  }
  brush.textAlign = "center";
  brush.textBaseline = "top";
  for (const step of even(...model.range, 4)) {
    const at = plan.x(step);
    if (at > left + 14 && at < left + width - 12) brush.fillText(tick(step), at, top + height + 5);
  }
  brush.textAlign = "right";
  brush.fillText(model.unit, left - 6, top + height + 5);
}

function thresholds({ brush, colour, plan, y, model }) {
  const { left, top, width, height } = plan.box;
  brush.setLineDash([5, 4]);
  for (const one of model.thresholds) {
    const at = y(one.value);
    if (one.severity === "info" || at < top || at > top + height) continue;
    brush.strokeStyle = colour(one.severity === "critical" ? "bad" : "mark");
    line(brush, left, at, left + width, at);
  }
  brush.setLineDash([]);
}

/** While someone looks closely: which rule each line belongs to, and where it lies. */
function thresholdNames(scene) {
  const { plan, y, model } = scene;
  const { left, top, width, height } = plan.box;
  const toLeft = plan.x(model.cursor) > left + width / 2;
  const named = [];
  for (const one of model.thresholds) {
    const at = y(one.value) - 7;
    if (one.severity === "info" || at < top || at > top + height || named.some((other) => Math.abs(other - at) < LEAST_TICK_PX)) continue;
    named.push(at);
    haloed(scene, `${one.rule} ${one.op} ${tick(one.value)}`, toLeft ? left + 70 : left + width - 4, at, one.severity === "critical" ? "bad" : "mark", toLeft ? "left" : "right");
  }
}

/** Marks that find room, the gravest first, with where they lie. */
function placed({ plan, model }) {
  const found = [];
  const worstFirst = [...model.marks].sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind));
  for (const mark of worstFirst) {
    const at = plan.x(mark.step);
    if (within(mark.step, model.range) && !found.some((other) => Math.abs(other.at - at) < MARK_ROOM)) found.push({ ...mark, at });
  }
  return found;
}

function inkOf(kind) {
  return GRAVE.includes(kind) ? "bad" : kind === "checkpoint" ? "good" : "mark";
}

function marks(scene) {
  const { brush, colour, plan } = scene;
  brush.globalAlpha = 0.55;
  brush.lineWidth = 1;
  for (const { kind, at } of placed(scene)) {
    brush.strokeStyle = colour(inkOf(kind));
    brush.setLineDash(GRAVE.includes(kind) ? [] : [2, 3]);
    line(brush, at, plan.box.top, at, plan.box.top + plan.box.height);
  }
  brush.globalAlpha = 1;
  brush.setLineDash([]);
}

/** The marks' signs above the plot, whole ones at its ends too. */
function signs(scene) {
  const { brush, colour, plan } = scene;
  brush.textAlign = "center";
  brush.textBaseline = "middle";
  for (const { kind, at } of placed(scene)) {
    brush.fillStyle = colour(inkOf(kind));
    brush.fillText(MARKS[kind][0], clamp(at, plan.box.left + 5, plan.box.left + plan.box.width - 1), plan.box.top / 2 + 1);
  }
}

function drawTrace({ brush, plan, y }, trace) {
  brush.strokeStyle = brush.fillStyle = trace.colour;
  brush.lineWidth = 1.6;
  brush.lineJoin = "round";
  brush.setLineDash(trace.dash || []);
  brush.beginPath();
  let before = null;
  for (const point of trace.points) {
    const finite = Number.isFinite(point.value);
    const joined = before && finite && before.attempt === point.attempt;
    if (joined) brush.lineTo(plan.x(point.step), y(point.value));
    else if (finite) {
      brush.moveTo(plan.x(point.step), y(point.value));
      brush.lineTo(plan.x(point.step) + 0.8, y(point.value)); // A lone point must be seen too.
    }
    before = finite ? point : null;
  }
  brush.stroke();
  brush.setLineDash([]);
}

/** Readings that are no numbers: each stretch of them a band over the whole height, and its name. */
function strange({ brush, colour, plan, model }) {
  const { top, height, left, width } = plan.box;
  brush.font = "bold 11px system-ui, 'DejaVu Sans', sans-serif";
  brush.textBaseline = "middle";
  let named = -Infinity;
  for (const { from, to, word, count, thinned } of stretches(model)) {
    const [begins, ends] = [plan.x(from), Math.max(plan.x(to), plan.x(from) + 2)];
    brush.fillStyle = colour("nan");
    brush.globalAlpha = 0.3;
    brush.fillRect(begins, top, ends - begins, height);
    brush.globalAlpha = 1;
    brush.fillRect(begins, top, 2, height);
    if (begins - named < 40) continue;
    named = begins;
    const text = count > 1 && !thinned ? `${word} ×${count}` : word;
    const size = brush.measureText(text).width + 8;
    const toLeft = begins + size > left + width;
    const x = toLeft ? begins - size - 1 : begins + 3;
    brush.fillStyle = colour("surface");
    brush.fillRect(x, top + height - 19, size, 16);
    brush.fillStyle = colour("nan");
    brush.textAlign = "left";
    brush.fillText(text, x + 4, top + height - 11);
  }
  brush.font = FONT;
}

function stretches(model) {
  const found = [];
  for (const trace of model.traces) {
    let open = null;
    for (const point of trace.points) {
      const strange = !Number.isFinite(point.value) && within(point.step, model.range);
      const word = strange && wordFor(point.value);
      if (strange && open?.word === word) Object.assign(open, { to: point.step, count: open.count + 1 });
      else if (strange) found.push((open = { from: point.step, to: point.step, word, count: 1, thinned: trace.points.thinned }));
      else open = null;
    }
  }
  return found;
}

function wordFor(value) {
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}

function pointer(scene) {
  const { brush, colour, plan, model, y } = scene;
  const { top, height } = plan.box;
  if (model.selection) {
    const [from, to] = model.selection.map(plan.x);
    brush.globalAlpha = 0.18;
    brush.fillStyle = colour("accent");
    brush.fillRect(Math.min(from, to), top, Math.abs(to - from), height);
    brush.globalAlpha = 1;
  }
  if (model.cursor === null) return;
  thresholdNames(scene);
  brush.strokeStyle = colour("ink");
  brush.lineWidth = 1;
  brush.globalAlpha = 0.6;
  line(brush, plan.x(model.cursor), top, plan.x(model.cursor), top + height);
  brush.globalAlpha = 1;
  for (const trace of model.traces) {
    const point = nearest(trace.points, model.cursor);
    if (!point || !Number.isFinite(point.value)) continue;
    brush.fillStyle = trace.colour;
    brush.beginPath();
    brush.arc(plan.x(point.step), y(point.value), 3.5, 0, 2 * Math.PI);
    brush.fill();
  }
}

/** The newest of the points that are nearest to a step. */
export function nearest(points, step) {
  let best = null;
  for (const point of points) {
    if (best === null || Math.abs(point.step - step) <= Math.abs(best.step - step)) best = point;
  }
  return best;
}

function line(brush, x1, y1, x2, y2) {
  brush.beginPath();
  brush.moveTo(x1, y1);
  brush.lineTo(x2, y2);
  brush.stroke();
}

function clamp(value, low, high) {
  return Number.isNaN(value) ? low : Math.min(high, Math.max(low, value));
}
