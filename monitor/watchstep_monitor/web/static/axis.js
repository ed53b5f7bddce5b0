// Scales and ticks: from readings to pixels and back.

const MOST_RATIO = 200; // Beyond this a straight axis shows the spike and nothing else.

/**
 * A vertical scale over finite values.
 * kind "auto" is straight unless the values run over decades. Logarithmic ones are signed: they are
 * straight around 0 and take negative readings too.
 */
export function vertical(values, kind) {
  const finite = values.filter(Number.isFinite);
  if (finite.length === 0) return straight(0, 1);
  const low = finite.reduce((a, b) => Math.min(a, b));
  const high = finite.reduce((a, b) => Math.max(a, b));
  const sizes = finite.map(Math.abs).sort((a, b) => a - b);
  const middle = sizes[sizes.length >> 1];
  const wild = sizes.at(-1) > MOST_RATIO * middle || (low > 0 && high > MOST_RATIO * low);
  if (kind === "linear" || (kind === "auto" && !wild)) return straight(low, high);
  return low > 0 ? logarithmic(low, high) : signed(low, high, middle);
}

function straight(low, high) {
  const room = high > low ? (high - low) * 0.07 : Math.abs(high) * 0.1 || 0.5;
  return made({ low: low - room, high: high + room, to: (y) => y, ticks: () => even(low - room, high + room, 4) });
}

function logarithmic(low, high) {
  const to = (y) => (y > 0 ? Math.log10(y) : -400);
  const [from, until] = [to(low) - 0.15, to(high) + 0.15];
  const ticks = () => decades(Math.floor(from), Math.ceil(until)).map((power) => 10 ** power);
  return made({ low: from, high: until, to, ticks, bent: true });
}

function signed(low, high, middle) {
  const unit = 10 ** Math.floor(Math.log10(middle || Math.max(-low, high) / 1e6 || 1));
  const to = (y) => Math.asinh(y / unit / 2) / Math.LN10;
  const span = Math.max(to(high) - to(low), 1e-9);
  const first = Math.log10(unit);
  const sides = [[1, high], [-1, low]].flatMap(([sign, end]) =>
    sign * end > unit ? decades(first, Math.ceil(Math.log10(sign * end))).map((power) => sign * 10 ** power) : [],
  );
  return made({ low: to(low) - span * 0.07, high: to(high) + span * 0.07, to, ticks: () => [0, ...sides], bent: true });
}

function made(scale) {
  const size = scale.high - scale.low;
  /** 0 at the bottom, 1 at the top. */
  return { ...scale, part: (y) => (scale.to(y) - scale.low) / size };
}

function decades(first, last) {
  const stride = Math.max(1, Math.ceil((last - first) / 5));
  const found = [];
  for (let power = first; power <= last; power += stride) found.push(power);
  return found;
}

/** About `count` round numbers within a span. */
export function even(low, high, count) {
  const rough = (high - low) / count || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const stride = [1, 2, 2.5, 5, 10].map((each) => each * unit).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / stride); at * stride <= high; at++) found.push(at * stride);
  return found;
}

/** A tick's number, short. */
export function tick(value) {
  const size = Math.abs(value);
  if (size < 1e-12) return "0";
  if (size >= 1e10 || size < 1e-4) return value.toExponential(0).replace("e+", "e");
  if (size >= 1e9) return `${round(value / 1e9)}G`;
  if (size >= 1e6) return `${round(value / 1e6)}M`;
  if (size >= 1e3) return `${round(value / 1e3)}k`;
  return String(round(value));
}

function round(value) {
  return Number(value.toPrecision(4));
}
