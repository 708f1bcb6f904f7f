import { describe, expect, it, test } from "vitest";
import { bytes, curvesOf, POINT_BYTES, runsOf, type Column, type Run } from "../src/data";
import { compareLine, csv, NOTHING, quoted, withFound } from "../src/lines";
import { best, delta, drawn, FRESH, groupsOf, matches, mean, paint, shownColumns, sorted, text, unknown, withinBrushes, type View } from "../src/rows";

const COLUMNS: Column[] = [
  { key: "display_name", label: "display_name", kind: "fact", type: "text", texts: ["red", "green", "blue"] },
  { key: "loss", label: "loss", kind: "metric", type: "number", goal: "min" },
  { key: "params.rate", label: "rate", kind: "param", type: "number" },
  { key: "params.kind", label: "kind", kind: "param", type: "text", texts: ["a", "b", "a"] },
  { key: "params.seed", label: "seed", kind: "param", type: "number" },
];
const BLOCK = new Float64Array([0.3, NaN, 0.1, 1, 2, 3, 7, 7, 7]).buffer;
const RUNS = runsOf({ runs: ["r1", "r2", "r3"], columns: COLUMNS }, BLOCK);
const ids = (runs: Run[]) => runs.map(({ id }) => id).join(" ");
const view = (part: Partial<View> = {}): View => ({ ...FRESH, metric: "loss", ...part });

describe("blocks", () => {
  it("gives cells by column", () => {
    expect(RUNS[2].cells).toEqual({ display_name: "blue", loss: 0.1, "params.rate": 3, "params.kind": "a", "params.seed": 7 });
    expect(RUNS[0].name).toBe("red");
  });

  it("reads curves from a block that begins anywhere", () => {
    const block = new ArrayBuffer(1 + POINT_BYTES * 3);
    const whole = new DataView(block, 1);
    [0, 1, 5].forEach((step, at) => whole.setFloat64(8 * at, step, true));
    [1e300, 8, 7].forEach((value, at) => whole.setFloat64(24 + 8 * at, value, true));
    [0, 2, 0].forEach((second, at) => whole.setFloat32(48 + 4 * at, second, true));
    const about = { metric: "loss", start: 100 };
    const [a, b] = curvesOf([{ run: "r1", count: 2, ...about }, { run: "r2", count: 1, ...about }], bytes(whole));
    expect([...a.step, ...a.seconds, ...a.value]).toEqual([0, 1, 0, 2, 1e300, 8]);
    expect([...b.step, ...b.value]).toEqual([5, 7]);
  });
});

test.each([
  ["loss", false, "r3 r1 r2"],
  ["loss", true, "r1 r3 r2"], // what is missing stays last
  ["run", false, "r3 r2 r1"],
  ["params.kind", true, "r2 r1 r3"],
  ["", false, "r1 r2 r3"],
])("sorted by %s, descending %s", (key, descending, order) => expect(ids(sorted(RUNS, key, descending))).toBe(order));

test.each([
  ["", "r1 r2 r3"],
  ["BLU", "r3"],
  ["kind=a", "r1 r3"],
  ["kind=a red", "r1"],
  ["rate=2", "r2"],
  ["nothing=a", ""],
  ["rate>1", "r2 r3"],
  ["rate >= 2 kind=b", "r2"],
  ["loss<0.2", "r3"],
  ["params.rate!=1", "r2 r3"],
  ["rate=1.0", "r1"],
])("filter %j", (filter, found) => expect(ids(RUNS.filter((run) => matches(run, filter)))).toBe(found));

test("a filter tells which names no column has", () => {
  expect(unknown("lr>1 kind=a red metrics.loss<1", COLUMNS)).toEqual(["lr"]);
});

test("a run that has logged NaN is not one that has logged nothing", () => {
  const columns: Column[] = [{ ...COLUMNS[1]!, nans: [1] }];
  const runs = runsOf({ runs: ["a", "b", "c"], columns }, new Float64Array([1, NaN, NaN]).buffer);
  expect(runs.map(({ nans }) => [...nans])).toEqual([[], ["loss"], []]);
});

test("only what differs is shown, metrics always", () => {
  expect(shownColumns(COLUMNS, RUNS, true).map(({ label }) => label)).toEqual(["loss", "rate", "kind"]);
  expect(shownColumns(COLUMNS, RUNS, false).map(({ label }) => label)).toEqual(["loss", "rate", "kind", "seed"]);
});

test("brushes leave out what is outside and what lacks the number", () => {
  expect(ids(withinBrushes(RUNS, { loss: [0, 1] }))).toBe("r1 r3");
  expect(ids(withinBrushes(RUNS, { "params.kind": [0.5, 1] }))).toBe("r2");
  expect(ids(drawn(RUNS, view({ brushes: { "params.rate": [2, 3] }, hidden: ["r3"] })))).toBe("r2");
});

test("groups are in order, sorted within", () => {
  const groups = groupsOf(RUNS, view({ group: "params.kind", sort: "loss" }));
  expect(groups.map(({ label, runs }) => `${label}: ${ids(runs)}`)).toEqual(["a: r3 r1", "b: r2"]);
  expect(mean(groups[0].runs, "loss")).toBeCloseTo(0.2);
  expect(mean(groups[1].runs, "loss")).toBeNaN();
});

test("runs of a group have its colour, whatever is shown of it", () => {
  const places = () => RUNS.map(({ place }) => place);
  paint(RUNS, "params.kind");
  expect(places()).toEqual([0, 1, 0]);
  paint(RUNS, "params.rate");
  expect(places()).toEqual([0, 1, 2]);
  paint(RUNS, "");
  expect(places()).toEqual([0, 1, 2]);
});

test("the best run follows the goal and has the metric", () => {
  expect(best(RUNS, COLUMNS[1])).toBe("r3");
  expect(best(RUNS, { ...COLUMNS[1], goal: "max" })).toBe("r1");
});

test.each([
  [0.4, 0.3, "+0.1"],
  [0.25, 0.3, "−0.05"],
  [1, 1, "±0"],
  [NaN, 1, ""],
  ["a", 1, ""],
])("delta of %s to %s", (value, base, shown) => expect(delta(value, base)).toBe(shown));

test.each([[20231105, "20231105"], [-3, "−3"], [0.123456, "0.12346"], [1e-9, "1e−9"], [-Infinity, "−∞"], [NaN, ""]])("%s is written %s", (value, shown) => expect(text(value)).toBe(shown));

describe("the magic line", () => {
  const origin = { experiment: "my trees" };

  it("names the experiment while all runs are drawn", () => {
    expect(compareLine(origin, view(), RUNS, RUNS)).toBe("%aml compare --experiment 'my trees' --metric loss");
  });

  it.each([
    [{ runs: ["a-sweep"] }, "a-sweep --metric loss"],
    [{ experiment: "e", filter: "params.a = '1'", top: 10, by: "loss" }, `--experiment e --filter "params.a = '1'" --top 10 --by loss --metric loss`],
  ])("asks for all runs as it was asked", (asked, words) => {
    const found = compareLine(asked, view({ sort: "loss", descending: false }), RUNS, RUNS, "top" in asked ? COLUMNS : []);
    expect(found).toBe(`%aml compare ${words}`);
  });

  it("names the runs that are drawn, and how", () => {
    const shown = drawn(RUNS, view({ hidden: ["r2"] }));
    expect(compareLine(origin, view({ log: true, smooth: 0.6, x: "time" }), RUNS, shown)).toBe("%aml compare r1 r3 --metric loss --smooth 0.6 --log --x time");
  });

  it.each([
    [false, "--by loss"],
    [true, "--by loss --goal max"],
  ])("says how the table is sorted, descending %s", (descending, flags) => {
    const line = compareLine(origin, view({ sort: "loss", descending, differ: false }), RUNS, RUNS, COLUMNS);
    expect(line).toBe(`%aml compare --experiment 'my trees' --metric loss ${flags} --all`);
  });

  it("has the goal and the number of runs that were asked for", () => {
    const line = compareLine({ ...origin, goal: "min", max_results: 500 }, view(), RUNS, RUNS, COLUMNS);
    expect(line).toBe("%aml compare --experiment 'my trees' --max-results 500 --metric loss --goal min");
  });

  it("goes before what is done with it", () => {
    expect(withFound("%aml compare r1", "df.head()")).toBe("found = %aml compare r1\nfound.df.head()");
  });

  it("has metrics, baseline and group as they were asked for, and nothing where nothing is left", () => {
    const origin = { experiment: "e", metric: "loss", metrics: ["loss", "acc"] };
    const asked = view({ baseline: "r2", group: "params.kind" });
    expect(compareLine(origin, asked, RUNS, RUNS)).toBe("%aml compare --experiment e --metric loss acc --baseline r2 --group-by kind");
    expect(compareLine({ ...origin, metrics: [] }, view(), RUNS, RUNS)).toBe("%aml compare --experiment e");
    expect(compareLine({ ...origin, metrics: [] }, view({ metric: "acc" }), RUNS, RUNS)).toBe("%aml compare --experiment e --metric acc");
    expect(compareLine(origin, view(), RUNS, [])).toBe(NOTHING);
  });

  it.each([["plain", "plain"], ["two words", "'two words'"], ["it's", `"it's"`], ["$x", "'$x'"], [`a='x' "y"`, `'a='"'"'x'"'"' "y"'`]])("quotes %s", (word, shown) => expect(quoted(word)).toBe(shown));
});

test("CSV has a row a run, quotes what it must and starts no formula", () => {
  const runs = runsOf({ runs: ["r1"], columns: [{ key: "note", label: "note", kind: "param", type: "text", texts: ['=1,"2"'] }] }, new ArrayBuffer(0));
  expect(csv(runs, [{ key: "note" } as Column])).toBe(`name,display_name,note\r\nr1,r1,"'=1,""2"""\r\n`);
  expect(csv(RUNS, COLUMNS.slice(1, 3))).toBe("name,display_name,loss,params.rate\r\nr1,red,0.3,1\r\nr2,green,,2\r\nr3,blue,0.1,3\r\n");
});
