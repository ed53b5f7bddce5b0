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
  brush.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  const plan = geometry(width, height, model.range);
  const inside = model.traces.flatMap((trace) => trace.points.filter((point) => within(point.step, model.range)));
  const scale = vertical(inside.map((point) => point.value), model.kind);
  const y = (value) => plan.box.top + plan.box.height * (1 - scale.part(value));
  const scene = { brush, colour, plan, scale, y, model };
  zones(scene);
  grid(scene);
  brush.save();
  brush.beginPath();
  brush.rect(plan.box.left, 0, plan.box.width, plan.box.top + plan.box.height);
  brush.clip();
  thresholds(scene);
  marks(scene);
  model.traces.forEach((trace) => drawTrace(scene, trace));
  strange(scene);
  pointer(scene);
  brush.restore();
  return plan;
}

function within(step, [from, to]) {
  return step >= from && step <= to;
}

function zones({ brush, colour, plan, y, model }) {
  const { left, top, width, height } = plan.box;
  for (const zone of model.zones) {
    if (zone.zone === "ok") continue;
    const high = zone.to === null ? top : clamp(y(zone.to), top, top + height);
    const low = zone.from === null ? top + height : clamp(y(zone.from), top, top + height);
    if (low - high < 1) continue;
    brush.globalAlpha = Number(colour(zone.zone === "explosion" ? "band-explosion" : "band"));
    brush.fillStyle = colour(`zone-${zone.zone}`);
    brush.fillRect(left, high, width, low - high);
    brush.globalAlpha = 1;
    if (zone.zone === "explosion") hatch(brush, left, high, width, low - high, colour("zone-explosion"));
    if (low - high > 17) {
      brush.fillStyle = colour("quiet");
      // At the left, where a run is usually still well and nothing lies over the word.
      brush.textAlign = "left";
      brush.textBaseline = "top";
      brush.fillText(zone.zone, left + 5, Math.max(high + 3, top + 1));
    }
  }
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
  let named = Infinity;
  for (const value of scale.ticks().sort((a, b) => a - b)) {
    const at = Math.round(y(value)) + 0.5;
    if (at < top || at > top + height || named - at < LEAST_TICK_PX) continue;
    named = at;
    line(brush, left, at, left + width, at);
    brush.fillText(tick(value), left - 6, at);
  }
  brush.textAlign = "center";
  brush.textBaseline = "top";
  for (const step of even(...model.range, 4)) {
    const at = plan.x(step);
    if (at > left + 14 && at < left + width - 12) brush.fillText(tick(step), at, top + height + 5);
  }
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

function marks({ brush, colour, plan, model }) {
  const { top, height } = plan.box;
  const taken = [];
  brush.textAlign = "center";
  brush.textBaseline = "middle";
  const worstFirst = [...model.marks].sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind));
  for (const mark of worstFirst) {
    if (!within(mark.step, model.range)) continue;
    const at = plan.x(mark.step);
    if (taken.some((other) => Math.abs(other - at) < MARK_ROOM)) continue;
    taken.push(at);
    const grave = ["halt", "failed", "critical"].includes(mark.kind);
    brush.fillStyle = brush.strokeStyle = colour(grave ? "bad" : mark.kind === "checkpoint" ? "good" : "mark");
    brush.globalAlpha = 0.55;
    brush.setLineDash(grave ? [] : [2, 3]);
    line(brush, at, top, at, top + height);
    brush.globalAlpha = 1;
    brush.fillText(MARKS[mark.kind][0], at, top / 2 + 1);
  }
  brush.setLineDash([]);
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

/** Readings that are no numbers: a stroke over the whole height, and their name. */
function strange({ brush, colour, plan, model }) {
  const { top, height, left, width } = plan.box;
  const found = model.traces.flatMap((trace) => trace.points).filter((point) => !Number.isFinite(point.value) && within(point.step, model.range));
  brush.strokeStyle = brush.fillStyle = colour("nan");
  brush.lineWidth = 2;
  brush.textBaseline = "bottom";
  let named = -Infinity;
  for (const point of found) {
    const at = plan.x(point.step);
    line(brush, at, top, at, top + height);
    if (at - named < 40) continue;
    named = at;
    const toLeft = at > left + width - 40;
    brush.textAlign = toLeft ? "right" : "left";
    brush.font = "bold 11px system-ui, 'DejaVu Sans', sans-serif";
    const word = wordFor(point.value);
    const size = brush.measureText(word).width + 8;
    brush.fillStyle = colour("surface");
    brush.fillRect(toLeft ? at - size - 2 : at + 2, top + height - 18, size, 16);
    brush.fillStyle = colour("nan");
    brush.fillText(word, at + (toLeft ? -5 : 5), top + height - 3);
  }
}

function wordFor(value) {
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}

function pointer({ brush, colour, plan, model, y }) {
  const { top, height } = plan.box;
  if (model.selection) {
    const [from, to] = model.selection.map(plan.x);
    brush.globalAlpha = 0.18;
    brush.fillStyle = colour("accent");
    brush.fillRect(Math.min(from, to), top, Math.abs(to - from), height);
    brush.globalAlpha = 1;
  }
  if (model.cursor === null) return;
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
