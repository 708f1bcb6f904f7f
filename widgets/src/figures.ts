// A scatter of parameter against metric, and parallel coordinates whose axes are brushed: SVG.
import { styleOf } from "./curves";
import { h, s, ticks } from "./dom";
import { axes, namesOf, shownColumns, text, type View } from "./rows";
import type { Column, Run } from "./data";

const WIDTH = 760;
const HEIGHT = 300;
const MARGIN = { left: 64, right: 24, top: 24, bottom: 40 };

/** Map numbers to pixels. */
export function scale([low, high]: [number, number], [from, to]: [number, number]): (value: number) => number {
  return (value) => from + ((value - low) / (high - low || 1)) * (to - from);
}

export function extent(values: number[]): [number, number] {
  const finite = values.filter(isFinite);
  if (!finite.length) return [0, 1];
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

interface Pick {
  view: View;
  change: (part: Partial<View>) => void;
  hover: (run: string) => void;
}

/** Values of a column as positions: numbers, or the places of texts in their order. */
export function positions(runs: Run[], column: Column): { values: number[]; names: string[] } {
  if (column.type === "number") return { values: runs.map((run) => run.cells[column.key] as number), names: [] };
  const names = namesOf(runs, column.key);
  return { values: runs.map((run) => names.indexOf(String(run.cells[column.key]))), names };
}

export function scatter(all: Column[], runs: Run[], { view, change, hover }: Pick): HTMLElement {
  const xs = all.filter(({ kind }) => kind === "param");
  const ys = all.filter(({ kind }) => kind === "metric");
  const x = xs.find(({ key }) => key === view.scatterX) ?? xs.find(({ key }) => axes(all, runs).some((one) => one.key === key)) ?? xs[0];
  const y = ys.find(({ key }) => key === (view.scatterY || view.metric)) ?? ys[0];
  if (!x || !y) return h("p", {}, "A scatter needs a parameter and a metric; the runs have logged none.");
  const controls = h(
    "div",
    { class: "aml-bar" },
    choice("Parameter", xs, x.key, (scatterX) => change({ scatterX })),
    choice("Metric", ys, y.key, (scatterY) => change({ scatterY })),
  );
  const across = positions(runs, x);
  const up = positions(runs, y);
  const toX = scale(padded(extent(across.values)), [MARGIN.left, WIDTH - MARGIN.right]);
  const toY = scale(padded(extent(up.values)), [HEIGHT - MARGIN.bottom, MARGIN.top]);
  const dots = runs.map((run, at) => {
    if (!isFinite(across.values[at]) || !isFinite(up.values[at])) return null;
    const words = `${run.name}: ${x.label} ${text(run.cells[x.key])}, ${y.label} ${text(run.cells[y.key])}`;
    const look = { cx: toX(across.values[at]), cy: toY(up.values[at]), r: 5, fill: styleOf(run.place).color };
    const act = { onmouseenter: () => hover(run.id), onmouseleave: () => hover("") };
    return s("circle", { ...look, ...act, role: "listitem", "aria-label": words }, s("title", {}, words));
  });
  const bottom = HEIGHT - MARGIN.bottom;
  const marksX = across.names.length ? across.names.map((name, at) => ({ at, name })) : ticks(...extent(across.values)).map((at) => ({ at, name: text(at) }));
  const picture = s(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "aml-figure", role: "list", "aria-label": `${y.label} against ${x.label}, ${runs.length} runs` },
    ...marksX.slice(0, 20).map(({ at, name }) => s("text", { x: toX(at), y: bottom + 16, "text-anchor": "middle" }, short(name))),
    ...ticks(...extent(up.values)).flatMap((at) => [
      s("line", { x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: toY(at), y2: toY(at), class: "aml-grid" }),
      s("text", { x: MARGIN.left - 6, y: toY(at) + 4, "text-anchor": "end" }, text(at)),
    ]),
    s("text", { x: WIDTH / 2, y: HEIGHT - 6, "text-anchor": "middle" }, x.label),
    s("text", { x: 8, y: 14 }, y.label),
    ...dots,
  );
  return h("div", {}, controls, picture);
}

const padded = ([low, high]: [number, number]): [number, number] => [low - 0.04 * (high - low), high + 0.04 * (high - low)];
const short = (name: string) => (name.length > 14 ? `${name.slice(0, 13)}…` : name);

export function choice(label: string, columns: Column[], value: string, changed: (key: string) => void): HTMLElement {
  const select = h("select", { onchange: () => changed(select.value) }, ...columns.map(({ key, label: name }) => h("option", { value: key }, name)));
  select.value = value;
  return h("label", {}, `${label} `, select);
}

const MOST_AXES = 12; // parameters, as in the static picture
const FROM_TO = [[176, 60, 178], [204, 71, 120], [248, 149, 64]]; // the worst, the middle and the best value

/** The colour of a value by its place between the worst (0) and the best (1); grey for none. */
export function tint(share: number): string {
  if (!isFinite(share)) return "#808080";
  const [at, rest] = [Math.min(Math.floor(2 * share), 1), 2 * share - Math.min(Math.floor(2 * share), 1)];
  return `rgb(${FROM_TO[at]!.map((from, channel) => Math.round(from + rest * (FROM_TO[at + 1]![channel]! - from))).join(",")})`;
}

/** Parameters and facts that are axes: numbers that differ, and texts of a few kinds. */
export function parallelAxes(all: Column[], runs: Run[]): Column[] {
  const params = shownColumns(all, runs, true).filter(({ kind }) => kind === "param");
  return params.filter((column) => column.type === "number" || positions(runs, column).names.length <= MOST_AXES);
}

/** Parallel coordinates of what differs, coloured by the metric; `inside` are the runs that the brushes leave. */
export function parallel(all: Column[], runs: Run[], inside: Set<string>, { view, change, hover }: Pick): HTMLElement {
  const params = parallelAxes(all, runs);
  const metrics = axes(all, runs).filter(({ key, kind }) => kind === "metric" && key === view.metric);
  const shown = [...params.slice(0, MOST_AXES), ...metrics];
  if (shown.length < 2) return h("p", {}, "Parallel coordinates need two parameters or metrics that differ between the runs.");
  const across = scale([0, shown.length - 1], [MARGIN.left, WIDTH - MARGIN.left]);
  const places = shown.map((column) => positions(runs, column));
  const maps = places.map(({ values, names }) => {
    const range = extent(values);
    return { range, names, to: scale(range, [HEIGHT - MARGIN.bottom, MARGIN.top + 16]), from: scale([HEIGHT - MARGIN.bottom, MARGIN.top + 16], range) };
  });
  const [metric] = metrics;
  const good = metric ? scale(maps[maps.length - 1]!.range, metric.goal === "min" ? [1, 0] : [0, 1]) : () => NaN;
  const paths = runs.map((run, place) => {
    const points = shown.map((_, at) => [across(at), maps[at]!.to(places[at]!.values[place]!)]).filter(([, y]) => isFinite(y!));
    const act = { onmouseenter: () => hover(run.id), onmouseleave: () => hover("") };
    const stroke = metric ? tint(good(run.cells[metric.key] as number)) : styleOf(run.place).color;
    const look = { stroke, class: inside.has(run.id) ? "aml-path" : "aml-path aml-out" };
    return s("path", { d: `M${points.map((point) => point.map((n) => n!.toFixed(1)).join(",")).join("L")}`, ...look, ...act, "data-run": run.id }, s("title", {}, run.name));
  });
  const picture = s(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "aml-figure", role: "group", "aria-label": `parallel coordinates of ${shown.map(({ label }) => label).join(", ")}; ${inside.size} of ${runs.length} runs selected` },
    ...paths,
    ...shown.map((column, at) => axisOf(column, across(at), maps[at], view.brushes[column.key], (range) => change({ brushes: without(view.brushes, column.key, range) }))),
  );
  const clear = h("button", { type: "button", disabled: !Object.keys(view.brushes).length, onclick: () => change({ brushes: {} }) }, "Clear brushes");
  const left = params.slice(MOST_AXES).map(({ label }) => label);
  const colours = metric ? [h("span", { class: "aml-note" }, `${metric.label}: `, ...(["worst", "best"] as const).map((which, at) => h("span", { style: `color:${tint(at)}` }, `■ ${which} `)))] : [];
  const hint = h("span", { class: "aml-note" }, "Drag along an axis to select runs; with the keyboard: arrows move, Shift and arrows resize, Escape clears.");
  return h("div", {}, h("div", { class: "aml-bar" }, clear, ...colours, hint), picture, left.length ? h("p", { class: "aml-note" }, `not drawn: ${left.join(", ")}`) : "");
}

export function without(brushes: View["brushes"], key: string, range: [number, number] | null): View["brushes"] {
  const { [key]: _, ...others } = brushes;
  return range ? { ...others, [key]: range } : others;
}

/** A brush after a key: a quarter of the axis to begin with, then moved or resized by a tenth. */
export function keyed(brush: [number, number] | undefined, [low, high]: [number, number], key: string, resize: boolean): [number, number] | null {
  if (key === "Escape") return null;
  const step = ((high - low) / 10) * (key === "ArrowUp" ? 1 : -1);
  if (!brush) return key === "ArrowUp" ? [low + 0.75 * (high - low), high] : [low, low + 0.25 * (high - low)];
  const [from, to] = resize ? [brush[0], Math.max(brush[0], brush[1] + step)] : [brush[0] + step, brush[1] + step];
  const kept = resize ? 0 : Math.max(low - from, 0) || Math.min(high - to, 0);
  return [from + kept, Math.min(to + kept, high)];
}

interface Map1 {
  range: [number, number];
  names: string[]; // of a column of texts
  to: (value: number) => number;
  from: (pixel: number) => number;
}

function axisOf(column: Column, x: number, { range, names, to, from }: Map1, brush: [number, number] | undefined, set: (range: [number, number] | null) => void): SVGElement {
  const box = brush ? { x: x - 7, width: 14, y: to(brush[1]), height: Math.max(to(brush[0]) - to(brush[1]), 2) } : null;
  const bar = s("rect", { class: "aml-brush", ...(box ?? { visibility: "hidden" }) });
  const words = brush ? `${text(brush[0])} to ${text(brush[1])}` : "all values";
  const ends = [
    s("text", { x, y: MARGIN.top + 10, "text-anchor": "middle" }, text(range[1])),
    s("text", { x, y: HEIGHT - MARGIN.bottom + 16, "text-anchor": "middle" }, text(range[0])),
  ];
  let start: number | null = null;
  const at = (event: PointerEvent) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(group.ownerSVGElement!.getScreenCTM()!.inverse());
    return Math.max(range[0], Math.min(from(point.y), range[1]));
  };
  const span = (event: PointerEvent): [number, number] => [Math.min(start!, at(event)), Math.max(start!, at(event))];
  const group: SVGGElement = s(
    "g",
    {
      class: "aml-axis",
      tabindex: 0,
      role: "slider",
      "aria-label": `range of ${column.label}`,
      "aria-valuetext": words,
      "aria-valuemin": range[0],
      "aria-valuemax": range[1],
      "aria-valuenow": brush ? brush[0] : range[0],
      "data-key": column.key,
      onpointerdown: (event: PointerEvent) => {
        group.setPointerCapture(event.pointerId);
        start = at(event);
      },
      onpointermove: (event: PointerEvent) => {
        if (start === null) return;
        const [low, high] = span(event);
        for (const [name, value] of Object.entries({ x: x - 7, width: 14, y: to(high), height: to(low) - to(high), visibility: "visible" })) bar.setAttribute(name, String(value));
      },
      onpointerup: (event: PointerEvent) => {
        if (start === null) return;
        const [low, high] = span(event);
        start = null;
        set(high - low < (range[1] - range[0]) / 100 ? null : [low, high]);
      },
      onkeydown: (event: KeyboardEvent) => {
        if (!["ArrowUp", "ArrowDown", "Escape"].includes(event.key)) return;
        event.preventDefault();
        event.stopPropagation();
        set(keyed(brush, range, event.key, event.shiftKey));
      },
    },
    s("rect", { x: x - 14, width: 28, y: MARGIN.top, height: HEIGHT - MARGIN.bottom - MARGIN.top + 8, fill: "transparent" }),
    s("line", { x1: x, x2: x, y1: to(range[0]), y2: to(range[1]) }),
    s("text", { x, y: 14, "text-anchor": "middle" }, short(column.label)),
    ...(names.length ? names.map((name, at) => s("text", { x: x + 6, y: to(at) + 4 }, short(name))) : ends),
    bar,
  );
  return group;
}
