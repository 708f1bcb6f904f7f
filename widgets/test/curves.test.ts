import { describe, expect, it, test } from "vitest";
import { lineOf, lowerBound, shifted, smoothed, sparkline, styleOf, valueAt, windowOf, xRange, yRange, zoomed, type Line } from "../src/curves";
import type { Curve } from "../src/data";
import { keyed, positions, without } from "../src/figures";
import { layers, placed } from "../src/graph";
import { duration } from "../src/duration";

const curve = (step: number[], value: number[], seconds = step): Curve => ({
  run: "r",
  metric: "m",
  count: step.length,
  start: 1000,
  step: Float64Array.from(step),
  seconds: Float32Array.from(seconds),
  value: Float64Array.from(value),
});
const line = (x: number[], y: number[]): Line => ({ run: "r", x: Float64Array.from(x), y: Float64Array.from(y) });
const plain = { x: "step", log: false, smooth: 0 } as const;

describe("lines", () => {
  it("leave out what cannot be drawn", () => {
    const one = curve([0, 1, 2, 3], [1, NaN, Infinity, -1]);
    expect([...lineOf(one, plain).x]).toEqual([0, 3]);
    expect([...lineOf(one, { ...plain, log: true }).x]).toEqual([0]);
  });

  it("follow the axis, in its order", () => {
    const one = curve([0, 1, 2], [5, 6, 7], [30, 10, 20]);
    expect([...lineOf(one, { ...plain, x: "relative" }).x]).toEqual([10, 20, 30]);
    expect([...lineOf(one, { ...plain, x: "time" }).x]).toEqual([1010, 1020, 1030]);
    expect([...lineOf(one, { ...plain, x: "relative" }).y]).toEqual([6, 7, 5]);
  });

  it("are smoothed without a pull to zero", () => {
    expect([...smoothed([4, 4, 4], 0.9)].map((v) => v.toFixed(6))).toEqual(["4.000000", "4.000000", "4.000000"]);
    expect(smoothed([0, 1], 0.5)[1]).toBeCloseTo(2 / 3);
  });
});

describe("ranges", () => {
  it("give a point alone room", () => {
    expect(xRange([line([3], [1])])).toEqual([2.85, 3.15]);
    expect(xRange([])).toEqual([0, 1]);
  });

  it("follow what is visible", () => {
    const one = line([0, 1, 2, 3], [100, 1, 2, 100]);
    const [low, high] = yRange([one], [1, 2], false);
    expect(low).toBeCloseTo(0.95);
    expect(high).toBeCloseTo(2.05);
    expect(yRange([one], [1, 2], true)[0]).toBeGreaterThan(0);
  });

  it("stay within the whole", () => {
    expect(zoomed([0, 10], [0, 10], 0.5)).toEqual([2.5, 7.5]);
    expect(zoomed([0, 10], [0, 10], 2)).toEqual([0, 10]);
    expect(shifted([8, 10], [0, 10], 1)).toEqual([8, 10]);
    expect(shifted([2, 4], [0, 10], -0.5)).toEqual([1, 3]);
  });

  it("draw what is visible and one point to either side", () => {
    const [x] = windowOf(line([0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0]), [1.5, 3.5]);
    expect([...x]).toEqual([1, 2, 3, 4]);
  });
});

test("the cursor reads the nearest point, and none outside", () => {
  const one = line([0, 10, 20], [1, 2, 3]);
  expect([valueAt(one, 4), valueAt(one, 6), valueAt(one, 20)]).toEqual([1, 2, 3]);
  expect(valueAt(one, 21)).toBeUndefined();
  expect(lowerBound([1, 2, 2, 3], 2)).toBe(1);
});

test("a run's style is its own through four dashes of every colour", () => {
  const styles = Array.from({ length: 28 }, (_, at) => JSON.stringify(styleOf(at)));
  expect(new Set(styles).size).toBe(28);
});

describe("brushes by keys", () => {
  it("begin, move, resize and end", () => {
    expect(keyed(undefined, [0, 100], "ArrowUp", false)).toEqual([75, 100]);
    expect(keyed([75, 100], [0, 100], "ArrowDown", false)).toEqual([65, 90]);
    expect(keyed([75, 100], [0, 100], "ArrowUp", false)).toEqual([75, 100]);
    expect(keyed([0, 25], [0, 100], "ArrowUp", true)).toEqual([0, 35]);
    expect(keyed([0, 25], [0, 100], "Escape", false)).toBeNull();
  });

  it("are kept by axis", () => {
    expect(without({ a: [0, 1] }, "b", [2, 3])).toEqual({ a: [0, 1], b: [2, 3] });
    expect(without({ a: [0, 1] }, "a", null)).toEqual({});
  });
});

test("texts on an axis have places in their order", () => {
  const runs = ["b", "a", "b"].map((kind, index) => ({ id: `${index}`, index, place: index, name: "", cells: { kind }, nans: new Set<string>() }));
  expect(positions(runs, { key: "kind", label: "kind", kind: "param", type: "text" })).toEqual({ values: [1, 0, 1], names: ["a", "b"] });
});

describe("child jobs", () => {
  it("stand in the layer after what they wait for", () => {
    const found = layers(["a", "b", "c", "d"], [["a", "b"], ["b", "c"], ["a", "c"]]);
    expect([...found.values()]).toEqual([0, 1, 2, 0]);
  });

  it("end even where the bindings go round", () => {
    expect(layers(["a", "b"], [["a", "b"], ["b", "a"]]).size).toBe(2);
  });

  it("stand in rows where none waits", () => {
    expect(placed(["a", "b", "c", "d", "e", "f"], []).at(-1)).toEqual({ x: 0, y: 46 });
  });
});

test.each([[9.9, "0:09"], [61, "1:01"], [3725, "1:02:05"]])("%s seconds are %s", (seconds, shown) => expect(duration(seconds)).toBe(shown));

test("a sparkline fills its box and skips what is not finite", () => {
  expect(sparkline([0, 10], 96, 20)).toBe("M0.0,20.0L96.0,0.0");
  expect(sparkline([NaN, 1], 96, 20)).toBe("M94.0,10.0h2");
  expect(sparkline([], 96, 20)).toBe("");
});
