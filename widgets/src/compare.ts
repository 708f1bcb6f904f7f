// The comparison of runs: table first, then charts of what the table shows.
import { artifacts, type Artifacts } from "./artifacts";
import { Chart } from "./chart";
import { lineOf } from "./curves";
import { bytes, curvesOf, runsOf, type Column, type Curve, type Run } from "./data";
import { deployRun, register } from "./deploy_forms";
import { Desk } from "./desk";
import { codeLine, download, h, hideStatic, onTheme, ownKeys } from "./dom";
import { choice, parallel, scatter } from "./figures";
import { compareLine, csv, withFound } from "./lines";
import { ask, listening, onEnd, type Context, type Model } from "./model";
import { svgPicture } from "./pictures";
import { drawn, FRESH, matches, paint, shownColumns, text, withinBrushes, type View } from "./rows";
import { Table } from "./table";

const CURVES = 100; // at most so many are drawn at once
const TABS = { curves: "Curves", scatter: "Scatter", parallel: "Parallel coordinates", artifacts: "Artifacts" };

class Compare {
  private runs: Run[] = [];
  private columns: Column[] = [];
  private curves = new Map<string, Curve>();
  private asked = new Set<string>();
  private view: View;
  private alive = false;
  private readonly table = new Table({ change: (part) => this.change(part), hover: (run) => this.hover(run), form: (form, run) => this.form(form, run) });
  private readonly forms = h("div");
  private readonly desk = new Desk((wish) => ask(this.model, wish));
  private readonly chart = new Chart();
  private readonly panel = h("div", { role: "tabpanel", class: "aml-panel", id: `aml-${Math.random().toString(36).slice(2)}` });
  private readonly tabs = h("div", { role: "tablist", class: "aml-tabs", "aria-label": "charts" });
  private readonly bar = h("div", { class: "aml-bar" });
  private readonly note = h("span", { role: "status", class: "aml-note" });
  private readonly line = codeLine();
  private readonly files: Artifacts;
  private readonly listen;
  private readonly undo: (() => void)[] = [];
  private width = 0;

  constructor(
    private readonly model: Model,
    private readonly el: HTMLElement,
  ) {
    this.view = { ...FRESH, ...model.get("view") };
    const read = (run: string, path: string) =>
      this.line.set(`import mlflow\nmlflow.artifacts.download_artifacts(run_id=${JSON.stringify(run)}, artifact_path=${JSON.stringify(path)})`);
    this.files = artifacts((wish) => this.ask(wish), read);
    this.listen = listening(model);
    this.listen.on("msg:custom", (content: any, buffers: DataView[]) => this.hear(content, buffers));
    el.classList.add("aml-widget", "aml-compare");
    el.append(this.bar, this.table.element, this.forms, this.tabs, this.panel, this.line.element);
    this.load(model.get("table"), model.get("numbers"));
    this.keep(curvesOf(model.get("series"), bytes(model.get("points"))));
    this.controls();
    this.draw();
    this.watch();
    this.undo.push(ownKeys(el));
    onEnd(this.listen, model, () => this.end());
    ask(model, { want: "alive" });
  }

  /** The kernel has ended: what is shown stays, and nothing can be asked for. */
  private end(): void {
    this.alive = false;
    delete this.el.dataset["alive"];
    this.controls();
    this.say("the kernel has ended: run the cell again");
  }

  destroy(): void {
    this.listen.stop();
    this.chart.destroy();
    this.files.forget();
    this.undo.forEach((act) => act());
  }

  /** Draw when there is a width, and again with another theme. */
  private watch(): void {
    const size = new ResizeObserver(() => {
      const width = this.el.clientWidth;
      if (!width || (width === this.width && this.chart.made)) return;
      if (!this.width) this.undo.push(hideStatic(this.el));
      this.width = width;
      this.chart.make();
    });
    size.observe(this.el);
    this.undo.push(() => size.disconnect(), onTheme(() => this.chart.make()));
  }

  private load(table: { runs: string[]; columns: Column[] }, numbers: DataView): void {
    this.columns = table.columns;
    this.runs = runsOf(table, bytes(numbers));
    this.view.metric ||= this.columns.find(({ kind }) => kind === "metric")?.key ?? "";
  }

  private keep(curves: Curve[]): void {
    for (const curve of curves) this.curves.set(`${curve.run}\n${curve.metric}`, curve);
  }

  /** Change what is shown; the state goes to the kernel and into the saved notebook. */
  private change(part: Partial<View>): void {
    this.view = { ...this.view, ...part };
    this.model.set("view", this.view);
    try {
      this.model.save_changes();
    } catch {
      /* restored without a kernel: it is changed here only */
    }
    this.draw();
  }

  private hover(run: string): void {
    this.table.highlight(run);
    if (this.view.tab === "curves") this.chart.highlight(run);
    for (const path of this.panel.querySelectorAll<SVGElement>("[data-run]")) path.classList.toggle("aml-over", path.dataset["run"] === run);
  }

  private ask(wish: Record<string, unknown>): void {
    if (!ask(this.model, wish)) this.say("needs a kernel: run the cell again");
  }

  private hear(content: any, buffers: DataView[]): void {
    if (this.desk.hear(content)) return;
    if (content.kind === "alive") this.revive(content.forms);
    if (content.kind === "error") this.failed(content.wish, content.text);
    if (content.kind === "curves") {
      this.say("");
      this.keep(curvesOf(content.series, bytes(buffers[0])));
      this.drawPanel();
    }
    if (content.kind === "table") {
      this.load(content.table, buffers[0]);
      this.say("");
      this.draw();
    }
    if (content.kind === "files" || content.kind === "file") this.files.hear(content, bytes(buffers?.[0]));
  }

  /** A kernel answers: what is saved is an overview, so ask for the whole curves. */
  private revive(forms: boolean): void {
    if (this.alive) return;
    this.alive = true;
    this.table.forms = forms;
    this.el.dataset["alive"] = "";
    this.draw();
    this.controls();
  }

  /** Open a form for a run below the table; the same button closes it. */
  private form(form: "register" | "deploy", run: string): void {
    const what = `${form} ${run}`;
    const isOpen = this.forms.dataset["form"] === what;
    this.forms.dataset["form"] = isOpen ? "" : what;
    this.forms.replaceChildren(...(isOpen ? [] : [form === "register" ? register(this.desk, run) : deployRun(this.desk, run)]));
  }

  private want(): void {
    const { metric } = this.view;
    const runs = this.shown().map(({ id }) => id).filter((id) => !this.asked.has(`${id}\n${metric}`));
    if (!runs.length || !metric || !this.alive) return;
    runs.forEach((id) => this.asked.add(`${id}\n${metric}`));
    this.ask({ want: "curves", runs, metric });
  }

  /** Tell what could not be read; curves are asked for again when they are shown again, files after a refresh. */
  private failed(wish: any, text: string): void {
    this.say(text);
    for (const run of wish?.want === "curves" ? wish.runs : []) this.asked.delete(`${run}\n${wish.metric}`);
    if (wish?.want === "refresh") this.asked = new Set(this.curves.keys());
    if (wish?.want === "files" || wish?.want === "file") this.files.failed(wish, text);
  }

  private say(text: string): void {
    this.note.textContent = text;
  }

  private shown(): Run[] {
    return drawn(this.runs, this.view).slice(0, CURVES);
  }

  private controls(): void {
    const { view } = this;
    const filter = h("input", { type: "search", placeholder: "filter: words, kind=a, lr>0.5", "aria-label": "filter runs", value: view.filter, oninput: () => this.change({ filter: filter.value }) });
    const differ = h("input", { type: "checkbox", checked: view.differ, onchange: () => this.change({ differ: differ.checked }) });
    const params = this.columns.filter(({ kind, key }) => kind === "param" || key === "status");
    const none = { key: "", label: "nothing" } as Column;
    this.bar.replaceChildren(
      filter,
      h("label", {}, differ, " only differences"),
      choice("Group by", [none, ...params], view.group, (group) => this.change({ group })),
      h("button", { type: "button", class: "aml-refresh", disabled: !this.alive, onclick: () => this.refresh() }, "Refresh"),
      h("button", { type: "button", class: "aml-csv", onclick: () => this.csv() }, "CSV"),
      h("button", { type: "button", class: "aml-png", onclick: () => void this.png() }, "PNG"),
      this.note,
    );
  }

  private refresh(): void {
    this.asked = new Set(this.runs.slice(0, CURVES).map(({ id }) => `${id}\n${this.view.metric}`));
    this.files.forget();
    this.say("reading the runs …");
    this.ask({ want: "refresh", metric: this.view.metric, limit: CURVES });
  }

  private csv(): void {
    const columns = shownColumns(this.columns, this.runs, this.view.differ);
    download("runs.csv", new Blob([csv(drawn(this.runs, this.view), columns)], { type: "text/csv" }));
    this.line.set(withFound(this.magic(), 'df.to_csv("runs.csv")'));
    this.say("runs.csv holds the runs that are drawn");
  }

  /** What is on screen, and the line that draws it. */
  private async png(): Promise<void> {
    const { tab, metric } = this.view;
    const figure = this.panel.querySelector<SVGSVGElement>("svg.aml-figure");
    const title = tab === "curves" ? metric : (figure?.getAttribute("aria-label") ?? "").replace(/;.*/, "");
    const picture = tab === "curves" ? await this.chart.png() : figure && (await svgPicture(figure, title));
    if (!picture) return this.say("there is no chart to keep here");
    const name = `${(tab === "curves" ? metric : tab).replaceAll(/[^\w.-]/g, "_")}.png`;
    download(name, picture);
    this.line.set(withFound(this.magic(), `${this.drawing()}.savefig("${name}")`));
  }

  /** What draws the chart of a tab in Python. */
  private drawing(): string {
    const [x, y] = ["Parameter", "Metric"].map((label) => [...this.panel.querySelectorAll("label")].find((one) => one.textContent?.startsWith(label))?.querySelector("select")?.value ?? "");
    return { scatter: `df.plot.scatter(${JSON.stringify(x)}, ${JSON.stringify(`metrics.${y}`)}).figure`, parallel: "parallel" }[this.view.tab] ?? "figure";
  }

  private draw(): void {
    paint(this.runs, this.view.group);
    this.table.draw(this.columns, this.runs, this.view);
    this.drawTabs();
    this.drawPanel();
    this.line.set(this.magic());
    this.want();
  }

  private magic(): string {
    return compareLine(this.model.get("origin"), this.view, this.runs, drawn(this.runs, this.view), this.columns);
  }

  private drawTabs(): void {
    if (!this.tabs.children.length) {
      const names = Object.keys(TABS);
      const step = (event: KeyboardEvent) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!by) return;
        event.preventDefault();
        event.stopPropagation();
        this.change({ tab: names[(names.indexOf(this.view.tab) + by + names.length) % names.length] });
        this.tabs.querySelector<HTMLElement>('[aria-selected="true"]')?.focus();
      };
      const tab = ([key, label]: [string, string]) => h("button", { type: "button", role: "tab", "data-tab": key, "aria-controls": this.panel.id, onclick: () => this.change({ tab: key }), onkeydown: step }, label);
      this.tabs.append(...Object.entries(TABS).map(tab));
    }
    for (const tab of this.tabs.querySelectorAll<HTMLElement>("[role=tab]")) {
      const mine = tab.dataset["tab"] === this.view.tab;
      tab.setAttribute("aria-selected", String(mine));
      tab.tabIndex = mine ? 0 : -1;
    }
    this.panel.setAttribute("aria-label", TABS[this.view.tab as keyof typeof TABS]);
  }

  private drawPanel(): void {
    const acts = { view: this.view, change: (part: Partial<View>) => this.change(part), hover: (run: string) => this.hover(run) };
    const focus = (this.panel.querySelector(":focus") as HTMLElement | null)?.dataset["key"];
    if (this.view.tab === "curves") return this.drawCurves();
    if (this.view.tab === "scatter") this.panel.replaceChildren(scatter(this.columns, this.shown(), acts));
    if (this.view.tab === "parallel") {
      const all = this.runs.filter((run) => matches(run, this.view.filter) && !this.view.hidden.includes(run.id));
      const inside = new Set(withinBrushes(all, this.view.brushes).map(({ id }) => id));
      this.panel.replaceChildren(parallel(this.columns, all, inside, acts));
    }
    if (this.view.tab === "artifacts") this.panel.replaceChildren(this.files.draw(drawn(this.runs, this.view), this.view.baseline, this.alive));
    if (focus) this.panel.querySelector<HTMLElement>(`[data-key="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
  }

  private drawCurves(): void {
    if (this.panel.firstElementChild?.className !== "aml-curves") this.panel.replaceChildren(h("div", { class: "aml-curves" }, this.curveControls(), this.chart.element));
    const { view } = this;
    const runs = new Map(this.runs.map((run) => [run.id, run]));
    const found = this.shown().flatMap(({ id }) => this.curves.get(`${id}\n${view.metric}`) ?? []);
    const all = found.map((curve) => lineOf(curve, view));
    const lines = all.filter(({ x }) => x.length);
    const gone = all.filter(({ x }) => !x.length).map(({ run }) => runs.get(run)!.name);
    this.say(gone.length ? `${view.log ? "no value above 0" : "no number"} to draw of ${gone.join(", ")}` : "");
    const name = (id: string) => runs.get(id)!.name;
    const by = this.columns.find(({ key }) => key === view.group)?.label;
    const legend = by ? (id: string) => `${by} = ${text(runs.get(id)!.cells[view.group]) || "none"}` : name;
    this.chart.draw({ lines, place: (id) => runs.get(id)!.place, name, legend, x: view.x, log: view.log, label: view.metric });
  }

  private curveControls(): HTMLElement {
    const { view } = this;
    const metrics = this.columns.filter(({ kind }) => kind === "metric");
    const axes = ["step", "time", "relative"].map((key) => ({ key, label: key }) as Column);
    const log = h("input", { type: "checkbox", checked: view.log, onchange: () => this.change({ log: log.checked }) });
    const smooth = h("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: view.smooth, "aria-label": "smoothing", oninput: () => this.change({ smooth: Number(smooth.value) }) });
    return h(
      "div",
      { class: "aml-bar" },
      choice("Metric", metrics, view.metric, (metric) => this.change({ metric })),
      choice("Axis", axes, view.x, (x) => this.change({ x: x as View["x"] })),
      h("label", {}, log, " log scale"),
      h("label", {}, "Smoothing ", smooth),
      h("button", { type: "button", onclick: () => this.chart.reset() }, "Reset zoom"),
      h("span", { class: "aml-note" }, "drag to zoom; Ctrl and wheel zoom, Shift and wheel pan"),
    );
  }
}

export default {
  render({ model, el }: Context): () => void {
    const view = new Compare(model, el);
    return () => view.destroy();
  },
};
