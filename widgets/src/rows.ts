// What the table shows: pure functions from runs and the view's state to rows.
import type { Column, Run } from "./data";

export interface View {
  metric: string;
  x: "step" | "time" | "relative";
  log: boolean;
  smooth: number; // 0: none, towards 1: more
  sort: string; // a column's key; empty: as they came
  descending: boolean;
  filter: string;
  differ: boolean;
  hidden: string[];
  baseline: string;
  group: string;
  tab: string;
  brushes: Record<string, [number, number]>;
  scatterX: string;
  scatterY: string;
}

export const FRESH: View = {
  metric: "",
  x: "step",
  log: false,
  smooth: 0,
  sort: "",
  descending: false,
  filter: "",
  differ: true,
  hidden: [],
  baseline: "",
  group: "",
  tab: "curves",
  brushes: {},
  scatterX: "",
  scatterY: "",
};

export interface Group {
  label: string; // empty when nothing is grouped
  runs: Run[];
}

const same = (a: number | string, b: number | string) =>
  a === b || (typeof a === "number" && typeof b === "number" && isNaN(a) && isNaN(b));

/** Columns to show: with `differ`, parameters and facts only where runs are not the same. */
export function shownColumns(columns: Column[], runs: Run[], differ: boolean): Column[] {
  return columns.filter(({ key, kind }) => {
    if (key === "display_name") return false; // it heads the row
    if (!differ || kind === "metric" || key === "status" || !runs.length) return true;
    return runs.some((run) => !same(run.cells[key], runs[0].cells[key]));
  });
}

type Test = (value: number | string, wanted: string) => boolean;

const numbers = (holds: (value: number, wanted: number) => boolean): Test => (value, wanted) => value !== "" && holds(Number(value), Number(wanted));
const alike = (value: number | string, wanted: string) => String(value).toLowerCase() === wanted || (wanted !== "" && Number(value) === Number(wanted));
const TESTS: Record<string, Test> = {
  "=": alike,
  "!=": (value, wanted) => !alike(value, wanted),
  ">": numbers((value, wanted) => value > wanted),
  "<": numbers((value, wanted) => value < wanted),
  ">=": numbers((value, wanted) => value >= wanted),
  "<=": numbers((value, wanted) => value <= wanted),
};
const ASKED = /^([^<>=!]+)(!=|>=|<=|=|<|>)(.*)$/;

const words = (filter: string): string[] => filter.toLowerCase().replace(/\s*(!=|>=|<=|=|<|>)\s*/g, "$1").split(/\s+/).filter(Boolean);
const named = (keys: string[], name: string): string | undefined => keys.find((key) => key.replace(/^params\./, "").toLowerCase() === name.replace(/^(params|metrics)\./, ""));

/** Whether a run has every word of the filter in its name, id or cells; `key=text` and `key>1` ask one column. */
export function matches(run: Run, filter: string): boolean {
  const all = [run.id, ...Object.values(run.cells)].join("\n").toLowerCase();
  return words(filter).every((word) => {
    const [, name, test, wanted] = ASKED.exec(word) ?? [];
    const key = name && named(Object.keys(run.cells), name);
    return key ? TESTS[test!]!(run.cells[key]!, wanted!) : all.includes(word);
  });
}

/** Names that a filter asks for and no column has. */
export function unknown(filter: string, columns: Column[]): string[] {
  const keys = columns.map(({ key }) => key);
  return words(filter).flatMap((word) => {
    const name = ASKED.exec(word)?.[1];
    return name && !named(keys, name) ? [name] : [];
  });
}

/** The texts of a column in the order of its axis. */
export const namesOf = (runs: Run[], key: string): string[] => [...new Set(runs.map((run) => String(run.cells[key])))].sort();

/** The runs within every brushed range, of texts by their places on the axis; what lacks the number is outside. */
export function withinBrushes(runs: Run[], brushes: View["brushes"]): Run[] {
  const ranges = Object.entries(brushes).map(([key, range]) => ({ key, range, names: namesOf(runs, key) }));
  return runs.filter((run) =>
    ranges.every(({ key, range: [low, high], names }) => {
      const cell = run.cells[key];
      const value = typeof cell === "number" ? cell : names.indexOf(String(cell));
      return value >= low && value <= high;
    }),
  );
}

export function sorted(runs: Run[], key: string, descending: boolean): Run[] {
  if (!key) return runs;
  const sign = descending ? -1 : 1;
  return [...runs].sort((a, b) => compare(cell(a, key), cell(b, key), sign) || a.index - b.index);
}

function compare(a: number | string, b: number | string, sign: number): number {
  if (typeof a === "number" && typeof b === "number") {
    if (isNaN(a) || isNaN(b)) return Number(isNaN(a)) - Number(isNaN(b)); // missing: last
    return sign * (a - b);
  }
  return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
}

const cell = (run: Run, key: string) => (key === "run" ? run.name : run.cells[key]);

/** The rows in the order of the view, by group when one is asked for. */
export function groupsOf(runs: Run[], view: View): Group[] {
  const found = withinBrushes(runs, view.brushes).filter((run) => matches(run, view.filter));
  const ordered = sorted(found, view.sort, view.descending);
  if (!view.group) return [{ label: "", runs: ordered }];
  const groups = new Map<string, Run[]>();
  for (const run of sorted(ordered, view.group, false)) {
    const label = text(run.cells[view.group]);
    groups.set(label, [...(groups.get(label) ?? []), run]);
  }
  if (view.sort) for (const [label, members] of groups) groups.set(label, sorted(members, view.sort, view.descending));
  return [...groups].map(([label, members]) => ({ label, runs: members }));
}

/** Give each run the place of its colour: its own, or that of its group, so that they stay when others are hidden. */
export function paint(runs: Run[], group: string): void {
  const labels = group ? sorted(runs, group, false).map((run) => text(run.cells[group])) : [];
  const places = new Map([...new Set(labels)].map((label, at) => [label, at]));
  for (const run of runs) run.place = group ? places.get(text(run.cells[group]))! : run.index;
}

/** Runs that charts draw: those of the table that are not hidden. */
export function drawn(runs: Run[], view: View): Run[] {
  return groupsOf(runs, view)
    .flatMap((group) => group.runs)
    .filter((run) => !view.hidden.includes(run.id));
}

/** The id of the best run by a metric. */
export function best(runs: Run[], column: Column): string {
  const sign = column.goal === "min" ? 1 : -1;
  const having = runs.filter((run) => !isNaN(run.cells[column.key] as number));
  return sorted(having, column.key, sign < 0)[0]?.id ?? "";
}

/** The mean of a metric over runs that have it, NaN where none has. */
export function mean(runs: Run[], key: string): number {
  const values = runs.map((run) => run.cells[key] as number).filter((value) => !isNaN(value));
  return values.length ? values.reduce((a, b) => a + b, 0) / values.length : NaN;
}

/** A value as the table writes it. */
export function text(value: number | string): string {
  if (typeof value === "string") return value;
  if (isNaN(value)) return "";
  if (!isFinite(value)) return value > 0 ? "∞" : "−∞";
  const exact = Number.isSafeInteger(value); // a seed or a date is not to be rounded
  return String(exact ? value : Number(value.toPrecision(5))).replace("-", "−");
}

/** How a run differs from the baseline, with its sign; empty where one of them lacks the value. */
export function delta(value: number | string, base: number | string | undefined): string {
  if (typeof value !== "number" || typeof base !== "number") return "";
  const difference = value - base;
  if (isNaN(difference) || difference === 0) return isNaN(difference) ? "" : "±0";
  return (difference > 0 ? "+" : "") + text(difference);
}

/** Columns whose values are numbers and not all the same: axes of charts. */
export function axes(columns: Column[], runs: Run[]): Column[] {
  return shownColumns(columns, runs, true).filter(({ type, kind }) => type === "number" && kind !== "fact");
}
