// Curves as they are drawn: pure functions on arrays.
import type { Curve } from "./data";
import type { View } from "./rows";

export interface Line {
  run: string;
  x: Float64Array;
  y: Float64Array;
}

export type Range = [number, number];

/** An exponential moving average without the pull towards zero at its start. */
export function smoothed(values: ArrayLike<number>, weight: number): Float64Array {
  const out = new Float64Array(values.length);
  let average = 0;
  let share = 0;
  for (let i = 0; i < values.length; i++) {
    average = average * weight + values[i] * (1 - weight);
    share = share * weight + (1 - weight);
    out[i] = average / share;
  }
  return out;
}

/** What is drawn of a curve: finite points (above zero on a log scale), by ascending x. */
export function lineOf(curve: Curve, view: Pick<View, "x" | "log" | "smooth">): Line {
  const keep: number[] = [];
  for (let i = 0; i < curve.value.length; i++)
    if (isFinite(curve.value[i]) && (!view.log || curve.value[i] > 0)) keep.push(i);
  const at = (i: number) =>
    view.x === "step" ? curve.step[i] : curve.seconds[i] + (view.x === "time" ? curve.start : 0);
  if (view.x !== "step") keep.sort((a, b) => curve.seconds[a] - curve.seconds[b]);
  const y = Float64Array.from(keep, (i) => curve.value[i]);
  const weight = view.smooth > 0 && y.length > 2 ? view.smooth : 0;
  return { run: curve.run, x: Float64Array.from(keep, at), y: weight ? smoothed(y, weight) : y };
}

/** The range of x of all lines; a point alone gets room around it. */
export function xRange(lines: Line[]): Range {
  return roomy(bounds(lines.flatMap(({ x }) => (x.length ? [x[0], x[x.length - 1]] : []))));
}

/** The range of y of the parts of lines within a range of x. */
export function yRange(lines: Line[], [low, high]: Range, log: boolean): Range {
  let min = Infinity;
  let max = -Infinity;
  for (const { x, y } of lines)
    for (let i = lowerBound(x, low); i < x.length && x[i] <= high; i++) {
      if (y[i] < min) min = y[i];
      if (y[i] > max) max = y[i];
    }
  if (min > max) return log ? [0.1, 1] : [0, 1];
  const [from, to] = roomy([min, max]);
  if (log) return [min / 1.1, max * 1.1];
  const room = 0.05 * (to - from);
  return [from - room, to + room];
}

function bounds(values: number[]): Range {
  return values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
}

function roomy([low, high]: Range): Range {
  const half = Math.abs(low) * 0.05 || 0.5;
  return low === high ? [low - half, high + half] : [low, high];
}

/** The first index whose x is not below a value. */
export function lowerBound(x: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The value of a line at the point nearest to x; undefined outside of it. */
export function valueAt({ x, y }: Line, value: number): number | undefined {
  if (!x.length || value < x[0] || value > x[x.length - 1]) return undefined;
  const after = Math.min(lowerBound(x, value), x.length - 1);
  const before = Math.max(after - 1, 0);
  return y[value - x[before] < x[after] - value ? before : after];
}

/** The points within a range of x and one to either side: what a zoomed chart has to draw. */
export function windowOf({ x, y }: Line, [low, high]: Range): [Float64Array, Float64Array] {
  const from = Math.max(lowerBound(x, low) - 1, 0);
  const to = Math.min(lowerBound(x, high) + 1, x.length);
  return [x.subarray(from, to), y.subarray(from, to)];
}

/** A range after zooming by a factor around a point (0 to 1 of its width), kept within a whole. */
export function zoomed([low, high]: Range, whole: Range, factor: number, at = 0.5): Range {
  const width = Math.min((high - low) * factor, whole[1] - whole[0]);
  const from = low + at * (high - low) - at * width;
  return shifted([from, from + width], whole, 0);
}

/** A range after a shift by a share of its width, kept within a whole. */
export function shifted([low, high]: Range, whole: Range, share: number): Range {
  const width = high - low;
  const from = Math.max(whole[0], Math.min(low + share * width, whole[1] - width));
  return [from, from + width];
}

export const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800"];
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];

/** Colour and dash of a run: by its place among all, so that they stay when others are hidden. */
export function styleOf(index: number): { color: string; dash: number[] } {
  const dash = DASHES[Math.floor(index / PALETTE.length) % DASHES.length];
  return { color: PALETTE[index % PALETTE.length], dash };
}

/** The path of a curve in a box, a dash for one value; what is not finite is left out. */
export function sparkline(values: ArrayLike<number>, width: number, height: number): string {
  const points = Array.from(values, (value, at) => [at, value] as const).filter(([, value]) => isFinite(value));
  if (!points.length) return "";
  const [low, high] = [Math.min(...points.map(([, v]) => v)), Math.max(...points.map(([, v]) => v))];
  const x = (at: number) => (values.length > 1 ? (at / (values.length - 1)) * width : width / 2);
  const y = (value: number) => (high > low ? height - ((value - low) / (high - low)) * height : height / 2);
  if (points.length === 1) return `M${(x(points[0]![0]) - 2).toFixed(1)},${y(points[0]![1]).toFixed(1)}h2`;
  return `M${points.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join("L")}`;
}
