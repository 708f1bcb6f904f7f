// The magic line that does what was clicked.
import type { Run, Column } from "./data";
import type { View } from "./rows";

export interface Origin {
  experiment?: string;
  runs?: string[]; // as they were named; empty: those of the experiment
  filter?: string;
  top?: number;
  by?: string;
  goal?: string;
  max_results?: number;
  metric?: string; // that decides
  metrics?: string[]; // as they were asked for; empty: the usual ones
}

export const NOTHING = "# no run is left to compare: change the filter";

const BARE = /^[A-Za-z0-9_.:@/+=-]+$/;

/** A word as the magic reads it: quoted when it has to be; its splitter knows no escapes. */
export function quoted(word: string): string {
  if (BARE.test(word)) return word;
  if (word.includes("'") && !word.includes('"')) return `"${word}"`;
  return word.split("'").map((part) => `'${part}'`).join(`"'"`);
}

/** The line that shows this comparison: the runs that are drawn, the metric, axis and scale. */
export function compareLine(origin: Origin, view: View, all: Run[], shown: Run[], columns: Column[] = []): string {
  if (!shown.length) return NOTHING;
  const whole = shown.length === all.length && (origin.experiment || origin.runs?.length);
  const which = whole ? asked(origin) : shown.map((run) => quoted(run.id));
  const asIs = which.includes("--by");
  const by = asIs ? [] : order(view, columns, origin.goal);
  const decides = columns.find(({ key }) => key === (asIs ? origin.by : view.metric));
  const goal = origin.goal && decides?.goal === origin.goal ? ["--goal", origin.goal] : [];
  const metrics = shownMetrics(origin, view);
  const flags = [
    ...(metrics.length ? ["--metric", ...metrics.map(quoted)] : []),
    ...(by.length ? by : goal),
    ...(view.differ ? [] : ["--all"]),
    ...(view.smooth > 0 ? ["--smooth", String(view.smooth)] : []),
    ...(view.log ? ["--log"] : []),
    ...(view.x !== "step" ? ["--x", view.x] : []),
    ...(shown.some(({ id }) => id === view.baseline) ? ["--baseline", quoted(view.baseline)] : []),
    ...(view.group.startsWith(PARAM) ? ["--group-by", quoted(view.group.slice(PARAM.length))] : []),
  ];
  return ["%aml compare", ...which, ...flags].join(" ");
}

const PARAM = "params.";

/** The metrics of the line: that of the view first; none where nothing else than the usual ones was asked for. */
function shownMetrics({ metric, metrics = [] }: Origin, view: View): string[] {
  if (!view.metric || (!metrics.length && view.metric === metric)) return [];
  return [view.metric, ...metrics.filter((one) => one !== view.metric)];
}

/** What names all the runs, as the comparison was asked for. */
function asked({ experiment, runs, filter, top, by, max_results }: Origin): string[] {
  if (runs?.length) return runs.map(quoted);
  return [
    ...["--experiment", quoted(experiment!)],
    ...(filter ? ["--filter", quoted(filter)] : []),
    ...(top ? ["--top", String(top)] : []),
    ...(by ? ["--by", quoted(by)] : []),
    ...(max_results ? ["--max-results", String(max_results)] : []),
  ];
}

/** The flags that put the best of a metric first, when the table is sorted by one. */
function order({ sort, descending }: View, columns: Column[], asked = ""): string[] {
  const column = columns.find(({ key, kind }) => key === sort && kind === "metric");
  if (!column) return [];
  const goal = descending ? "max" : "min";
  return ["--by", quoted(sort), ...(goal === column.goal && goal !== asked ? [] : ["--goal", goal])];
}

/** Lines that do with a comparison what a button did. */
export function withFound(line: string, then: string): string {
  return `found = ${line}\nfound.${then}`;
}

/** The table as CSV: one row for each run, empty where a value is missing. */
export function csv(runs: Run[], columns: Column[]): string {
  const head = ["name", "display_name", ...columns.map((column) => column.key)];
  const lines = runs.map((run) => [run.id, run.name, ...columns.map(({ key }) => run.cells[key])]);
  return [head, ...lines].map((line) => line.map(field).join(",")).join("\r\n") + "\r\n";
}

function field(value: number | string): string {
  const text = typeof value === "number" && isNaN(value) ? "" : String(value);
  const safe = typeof value === "string" && /^[=+@\t\r]/.test(text) ? `'${text}` : text; // no formulas
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
