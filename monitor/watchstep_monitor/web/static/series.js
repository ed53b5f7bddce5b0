// Readings of one metric as columns: fetched, laid along an axis, smoothed.

import { get } from "./api.js";
import { reading } from "./format.js";

const POINTS = 1000; // About two a pixel of a chart; a zoom asks for its part.

/** Readings of a stored run, oldest first; what the service left out was never counted. */
export async function series(run, metric, query = {}) {
  const path = `/api/v1/runs/${encodeURIComponent(run)}/series`;
  const answer = await get(path, { metric, points: POINTS, ...query });
  const points = answer.points.map((point) => ({
    ...point,
    time: Date.parse(point.time) / 1000,
    value: reading(point.value),
  }));
  return Object.assign(points, { thinned: answer.thinned });
}

/** The same readings with those that came since. */
export async function withNewer(run, metric, points) {
  const last = points.at(-1);
  const answer = await series(run, metric, { from_step: last.step });
  const after = (point) => point.attempt > last.attempt || (point.attempt === last.attempt && point.seq > last.seq);
  const fresh = answer.filter(after);
  if (fresh.length === 0) return points;
  return Object.assign([...points, ...fresh], { thinned: points.thinned || answer.thinned });
}

/** Where readings lie on an axis: their step, their time, or seconds since `start`. */
export function place(axis, start) {
  if (axis === "time") return (point) => point.time;
  if (axis === "relative") return (point) => point.time - start;
  return (point) => point.step;
}

/**
 * Lines [xs, ys] whose x always rises, with a gap between attempts and at readings that are no
 * numbers. A resumed run that repeats steps needs one line more.
 */
export function lines(points, at) {
  const made = [];
  let line = null;
  let attempt = null;
  for (const point of points) {
    const x = at(point);
    const begins = point.attempt !== attempt;
    attempt = point.attempt;
    if (!line || (begins ? x <= line[0].at(-1) : x < line[0].at(-1))) {
      line = made.find(([xs]) => xs.at(-1) < x);
      if (!line) made.push((line = [[], []]));
    }
    const [xs, ys] = line;
    if (xs.length > 0 && begins) {
      xs.push((xs.at(-1) + x) / 2);
      ys.push(null);
    }
    const y = Number.isFinite(point.value) ? point.value : null;
    if (x === xs.at(-1)) ys[ys.length - 1] = y;
    else {
      xs.push(x);
      ys.push(y);
    }
  }
  return made;
}

/**
 * Exponential moving average, 0 (none) to 1. It is of distances along the axis and not of places
 * in the list, since thinned readings are not evenly spaced; early values are not drawn to zero.
 */
export function smoothed([xs, ys], weight) {
  const usual = (xs.at(-1) - xs[0]) / Math.max(1, xs.length - 1) || 1;
  let sum = 0;
  let mass = 0;
  let before = xs[0];
  const averages = ys.map((y, index) => {
    if (y === null) return null;
    const decay = weight ** ((xs[index] - before) / usual);
    before = xs[index];
    sum = sum * decay + y * (1 - weight);
    mass = mass * decay + (1 - weight);
    return sum / mass;
  });
  return [xs, averages];
}

/** The newest of the readings that are nearest to a place. */
export function nearest(points, at, x) {
  let best = null;
  for (const point of points) {
    if (best === null || Math.abs(at(point) - x) <= Math.abs(at(best) - x)) best = point;
  }
  return best;
}

/** Readings as comma-separated values. */
export function asCsv(traces) {
  const columns = ["run", "attempt", "seq", "step", "time", "value"];
  const rows = traces.flatMap(({ label, points }) =>
    points.map((point) => columns.map((name) => (name === "run" ? label : (point[name] ?? ""))).join(",")),
  );
  return [columns.join(","), ...rows, ""].join("\n");
}
