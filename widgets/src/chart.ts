// Curves on uPlot: zoom by drag, wheel and keys; a cursor that reads all curves at once.
import uPlot from "uplot";
import { shifted, styleOf, valueAt, windowOf, xRange, yRange, zoomed, type Line, type Range } from "./curves";
import { h, theme } from "./dom";
import { pictured } from "./pictures";
import { text } from "./rows";

export interface Drawn {
  lines: Line[];
  place: (run: string) => number; // of its colour
  name: (run: string) => string;
  legend: (run: string) => string; // what its colour stands for
  x: "step" | "time" | "relative";
  log: boolean;
  label: string;
}

export const FEW = 28; // lines that dashes and a wider pen help to tell apart; more of those take ten times as long
const READOUT = 12; // values that the cursor shows; the nearest ones
const HEIGHT = 320;
const DOT = 8; // width of a metric that was logged once

export class Chart {
  readonly element: HTMLElement;
  private readonly place = h("div", {
    class: "aml-plot",
    tabindex: 0,
    role: "img",
    "aria-roledescription": "chart",
    onkeydown: (event: KeyboardEvent) => this.key(event),
    onwheel: (event: WheelEvent) => this.wheel(event),
    ondblclick: () => this.reset(),
  });
  private readonly readout = h("div", { class: "aml-readout" });
  private plot: uPlot | null = null;
  private drawn: Drawn | null = null;
  private whole: Range = [0, 1];
  private range: Range = [0, 1];
  private focus = "";

  constructor() {
    this.element = h("div", { class: "aml-chart" }, this.place, this.readout);
  }

  /** Whether it is drawn as it should be: not where there was no width to draw it in. */
  made = false;

  /** Draw lines; the zoom stays when it still lies within them. */
  draw(drawn: Drawn): void {
    const axis = this.drawn?.x;
    const zoomedIn = this.range[0] !== this.whole[0] || this.range[1] !== this.whole[1];
    this.drawn = drawn;
    this.whole = xRange(drawn.lines);
    const inside = this.range[0] >= this.whole[0] && this.range[1] <= this.whole[1];
    if (!(zoomedIn && inside && axis === drawn.x)) this.range = this.whole;
    const names = drawn.lines.map(({ run }) => drawn.name(run));
    this.place.setAttribute("aria-label", `${drawn.label} by ${drawn.x} for ${names.length} runs: ${names.slice(0, 8).join(", ")}. Plus and minus zoom, arrows pan, 0 shows everything.`);
    this.make();
  }

  /** Draw again with other colours or in another width; later, where there is no width now. */
  make(): void {
    const { drawn } = this;
    const width = this.place.clientWidth;
    this.made = width > 0;
    if (!drawn || !width) return;
    this.plot?.destroy();
    this.plot = null;
    this.place.replaceChildren(drawn.lines.length ? "" : h("p", {}, "no curve to draw yet")); // uPlot draws no empty chart
    if (!drawn.lines.length) return;
    const { ink, grid } = theme(this.element);
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
    const paths = uPlot.paths.linear!();
    const few = drawn.lines.length <= FEW;
    this.plot = new uPlot(
      {
        width,
        height: HEIGHT,
        mode: 2,
        legend: { show: false },
        cursor: { drag: { x: true, y: false, setScale: false }, points: { show: false }, y: false },
        scales: {
          x: { time: drawn.x === "time", auto: false, range: () => this.range },
          y: { auto: false, distr: drawn.log ? 3 : 1, range: () => yRange(drawn.lines, this.range, drawn.log) },
        },
        axes: [
          { ...axis, label: drawn.x === "relative" ? "seconds" : drawn.x, labelSize: 20 },
          { ...axis, size: 64, label: drawn.label, labelSize: 20 },
        ],
        series: [
          {},
          ...drawn.lines.map((line) => {
            const { color, dash } = styleOf(drawn.place(line.run));
            const facets = [{ scale: "x", auto: false }, { scale: "y", auto: false }];
            if (line.x.length === 1) return { fill: color, paths: dot, facets, points: { show: false } } as uPlot.Series;
            return { stroke: color, dash: few ? dash : [], width: few ? 1.5 : 1, paths, facets, points: { show: false } } as uPlot.Series;
          }),
        ],
        hooks: { setCursor: [(plot) => this.read(plot)], setSelect: [(plot) => this.select(plot)] },
      },
      this.data(),
      this.place,
    );
    this.highlight(this.focus);
  }

  reset(): void {
    this.go(this.whole);
  }

  /** Make one run's curve stand out; none: all alike. */
  highlight(run: string): void {
    this.focus = this.drawn?.lines.some((line) => line.run === run) ? run : ""; // a hidden run fades no others
    run = this.focus;
    if (!this.plot || !this.drawn) return;
    this.drawn.lines.forEach((line, at) => {
      const one = this.plot!.series[at + 1];
      one.alpha = !run || line.run === run ? 1 : 0.15;
      if (line.x.length === 1) return;
      one.width = run && line.run === run ? 3 : this.drawn!.lines.length <= FEW ? 1.5 : 1;
    });
    this.plot.redraw(false);
  }

  /** Show a range of x. */
  go(range: Range): void {
    this.range = range;
    this.plot?.batch(() => {
      this.plot!.setData(this.data(), false);
      this.plot!.setScale("x", { min: range[0], max: range[1] });
      const [min, max] = yRange(this.drawn!.lines, range, this.drawn!.log);
      this.plot!.setScale("y", { min, max });
    });
  }

  /** What is on screen as a picture, with a title and the runs that are drawn. */
  png(): Promise<Blob | null> {
    const source = this.place.querySelector("canvas");
    const { drawn } = this;
    if (!source || !drawn) return Promise.resolve(null);
    const few = drawn.lines.length <= FEW;
    const colours = new Map(drawn.lines.map(({ run }) => [drawn.place(run), drawn.legend(run)]));
    const legend = [...colours].slice(0, FEW).map(([place, name]) => ({ ...styleOf(place), name }));
    const more = colours.size - legend.length;
    return pictured(source, this.element, drawn.label, few ? legend : legend.map((one) => ({ ...one, dash: [] })), more > 0 ? `and ${more} more` : "");
  }

  destroy(): void {
    this.plot?.destroy();
  }

  private data(): uPlot.AlignedData {
    const parts = this.drawn!.lines.map((line) => windowOf(line, this.range));
    return [null, ...parts] as unknown as uPlot.AlignedData;
  }

  private select(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width < 4) return;
    this.go([plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  private read(plot: uPlot): void {
    const { left, top } = plot.cursor;
    const { drawn } = this;
    if (!drawn || left === undefined || left < 0) return this.readout.replaceChildren();
    const x = plot.posToVal(left, "x");
    const y = plot.posToVal(top ?? 0, "y");
    const found = drawn.lines
      .map((line) => ({ run: line.run, value: valueAt(line, x) }))
      .filter((one): one is { run: string; value: number } => one.value !== undefined);
    const near = [...found].sort((a, b) => Math.abs(a.value - y) - Math.abs(b.value - y)).slice(0, READOUT);
    const shown = near.sort((a, b) => b.value - a.value);
    const where = drawn.x === "time" ? new Date(1000 * x).toLocaleString() : text(x);
    const more = found.length - shown.length;
    this.readout.replaceChildren(
      h("b", {}, `${drawn.x} ${where}`),
      ...shown.map(({ run, value }) => h("span", {}, swatch(drawn.place(run)), `${drawn.name(run)} ${text(value)}`)),
      more > 0 ? h("span", {}, `and ${more} more`) : "",
    );
  }

  private key(event: KeyboardEvent): void {
    const acts: Record<string, () => void> = {
      "+": () => this.go(zoomed(this.range, this.whole, 0.7)),
      "=": () => this.go(zoomed(this.range, this.whole, 0.7)),
      "-": () => this.go(zoomed(this.range, this.whole, 1 / 0.7)),
      ArrowLeft: () => this.go(shifted(this.range, this.whole, -0.2)),
      ArrowRight: () => this.go(shifted(this.range, this.whole, 0.2)),
      "0": () => this.reset(),
    };
    const act = acts[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // a notebook has shortcuts of its own
    act();
  }

  private wheel(event: WheelEvent): void {
    if (!(event.ctrlKey || event.shiftKey) || !this.plot) return; // a plain wheel scrolls the notebook
    event.preventDefault();
    if (event.shiftKey) return this.go(shifted(this.range, this.whole, Math.sign(event.deltaY || event.deltaX) * 0.1));
    const box = this.plot.over.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width;
    this.go(zoomed(this.range, this.whole, event.deltaY < 0 ? 0.8 : 1.25, at));
  }
}

/** A metric that was logged once is a dot: a line of one point is not seen. */
function dot(plot: uPlot, at: number): uPlot.Series.Paths {
  const [xs, ys] = plot.data[at] as unknown as [Float64Array, Float64Array];
  const fill = new Path2D();
  if (xs.length) {
    const [x, y] = [plot.valToPos(xs[0]!, "x", true), plot.valToPos(ys[0]!, "y", true)];
    fill.arc(x, y, (DOT / 2) * devicePixelRatio, 0, 2 * Math.PI); // not all browsers draw a line of no length
  }
  return { stroke: null, fill, clip: null, band: null, gaps: null, flags: 0 } as unknown as uPlot.Series.Paths;
}

/** A run's colour and dash, as in the chart. */
export function swatch(index: number, few = true): HTMLElement {
  const { color, dash } = few ? styleOf(index) : { ...styleOf(index), dash: [] };
  const style = `border-top:3px ${["solid", "dashed", "dotted", "double"][[0, 6, 2, 8].indexOf(dash[0] ?? 0)]} ${color}`;
  return h("i", { class: "aml-swatch", style, "aria-hidden": "true" });
}
