// What a chart shows behind and over its lines: zones, thresholds, marks, what was no number.
// Everything is drawn on uPlot's canvas, in its pixels.

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
const GRAVE = ["halt", "failed", "critical"];
const MARK_ROOM = 13;
const MOST_OF_A_KIND = 8; // A checkpoint at each update must not paint the chart.

/** Colours as the style sheet has them now; read again when light turns to dark. */
export function palette() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

/**
 * Shade what a rule would fire at, the worst zone hatched so that it is told without colour. Gives
 * the zones' names and where they belong, to be written over everything.
 */
export function zones(u, scale, colour) {
  const { left, top, width, height } = u.bbox;
  const brush = u.ctx;
  const names = [];
  const level = (edge, open) => (edge === null ? open : clamp(u.valToPos(edge, "y", true), top, top + height));
  brush.save();
  for (const zone of scale.zones) {
    const high = level(zone.to, top);
    const size = level(zone.from, top + height) - high;
    if (zone.zone === "ok" || !(size >= 1)) continue;
    const critical = zone.zone === "critical";
    brush.globalAlpha = Number(colour(critical ? "band-critical" : "band"));
    brush.fillStyle = colour(`zone-${zone.zone}`);
    brush.fillRect(left, high, width, size);
    if (critical) hatch(brush, [left, high, width, size], colour("zone-critical"));
    brush.globalAlpha = 1;
    // At the left, where a run is usually still well and nothing lies over the word.
    if (size > 17 * uPlot.pxRatio) names.push([zone.zone, left + 5 * uPlot.pxRatio, high + 9 * uPlot.pxRatio]);
  }
  brush.restore();
  return names;
}

function hatch(brush, [left, top, width, height], ink) {
  brush.save();
  brush.beginPath();
  brush.rect(left, top, width, height);
  brush.clip();
  brush.globalAlpha = 0.16;
  brush.strokeStyle = ink;
  brush.lineWidth = uPlot.pxRatio;
  brush.beginPath();
  for (let x = left - height; x < left + width; x += 9 * uPlot.pxRatio) {
    brush.moveTo(x, top + height);
    brush.lineTo(x + height, top);
  }
  brush.stroke();
  brush.restore();
}

export function write(u, text, x, y, ink, align = "left") {
  u.ctx.font = `${11 * uPlot.pxRatio}px system-ui, 'DejaVu Sans', sans-serif`;
  u.ctx.textAlign = align;
  u.ctx.textBaseline = "middle";
  u.ctx.fillStyle = ink;
  u.ctx.fillText(text, x, y);
}

/** Dashed lines where rules compare; information alone draws none. */
export function thresholds(u, scale, colour) {
  const { left, top, width, height } = u.bbox;
  u.ctx.save();
  u.ctx.setLineDash([5 * uPlot.pxRatio, 4 * uPlot.pxRatio]);
  u.ctx.lineWidth = uPlot.pxRatio;
  for (const threshold of scale.thresholds) {
    const y = u.valToPos(threshold.value, "y", true);
    if (threshold.severity === "info" || !(y >= top && y <= top + height)) continue;
    u.ctx.strokeStyle = colour(threshold.severity === "critical" ? "bad" : "mark");
    stroke(u.ctx, left, y, left + width, y);
  }
  u.ctx.restore();
}

/** Vertical lines with their signs above the plot, the gravest first where they crowd. */
export function marks(u, all, colour) {
  const { left, top, width, height } = u.bbox;
  u.ctx.save();
  u.ctx.lineWidth = uPlot.pxRatio;
  for (const { kind, x } of placed(u, all)) {
    const grave = GRAVE.includes(kind);
    const ink = colour(grave ? "bad" : kind === "checkpoint" ? "good" : "mark");
    u.ctx.strokeStyle = ink;
    u.ctx.setLineDash(grave ? [] : [2 * uPlot.pxRatio, 3 * uPlot.pxRatio]);
    u.ctx.globalAlpha = 0.55;
    stroke(u.ctx, x, top, x, top + height);
    u.ctx.globalAlpha = 1;
    const inside = clamp(x, left + 5 * uPlot.pxRatio, left + width - uPlot.pxRatio);
    write(u, MARKS[kind][0], inside, top - 8 * uPlot.pxRatio, ink, "center");
  }
  u.ctx.restore();
}

/** Marks that find room; many of a mild kind are thinned evenly. */
function placed(u, all) {
  const { left, width } = u.bbox;
  const shown = [];
  for (const kind of ORDER) {
    const room = GRAVE.includes(kind) ? 0 : width / MOST_OF_A_KIND;
    const own = new Map();
    for (const mark of all) {
      const x = mark.kind === kind ? u.valToPos(mark.x, "x", true) : NaN;
      const slot = Math.round(x / Math.max(room, MARK_ROOM * uPlot.pxRatio));
      if (x >= left - 1 && x <= left + width + 1 && !own.has(slot)) own.set(slot, x);
    }
    for (const x of own.values()) {
      const free = shown.every((other) => Math.abs(other.x - x) >= MARK_ROOM * uPlot.pxRatio);
      if (free) shown.push({ kind, x });
    }
  }
  return shown;
}

/** Readings that are no numbers: each stretch of them a band over the whole height, with its name. */
export function strange(u, traces, colour) {
  const { left, top, width, height } = u.bbox;
  const thin = 2 * uPlot.pxRatio;
  u.ctx.save();
  u.ctx.beginPath();
  u.ctx.rect(left, top, width, height);
  u.ctx.clip();
  u.ctx.fillStyle = colour("nan");
  let written = -Infinity;
  for (const { from, to, word } of stretches(traces)) {
    const begins = u.valToPos(from, "x", true);
    const size = Math.max(u.valToPos(to, "x", true) - begins, thin);
    u.ctx.globalAlpha = 0.3;
    u.ctx.fillRect(begins, top, size, height);
    u.ctx.globalAlpha = 1;
    u.ctx.fillRect(begins, top, thin, height);
    if (begins - written < 40 * uPlot.pxRatio) continue;
    written = begins;
    const toLeft = begins > left + width - 40 * uPlot.pxRatio;
    write(u, word, begins + (toLeft ? -4 : 6) * uPlot.pxRatio, top + height - 11 * uPlot.pxRatio, colour("nan"), toLeft ? "right" : "left");
  }
  u.ctx.restore();
}

function stretches(traces) {
  const all = [];
  for (const { points, at } of traces) {
    let open = null;
    for (const point of points) {
      const word = wordOf(point.value);
      if (word && open?.word === word) open.to = at(point);
      else if (word) all.push((open = { from: at(point), to: at(point), word }));
      else open = null;
    }
  }
  return all;
}

function wordOf(value) {
  if (Number.isFinite(value)) return null;
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}

function stroke(brush, x1, y1, x2, y2) {
  brush.beginPath();
  brush.moveTo(x1, y1);
  brush.lineTo(x2, y2);
  brush.stroke();
}

function clamp(value, low, high) {
  return Number.isNaN(value) ? high : Math.min(high, Math.max(low, value));
}
