// A job's card: status, progress, metrics, log and child jobs, until the job ends.
import { sparkline, styleOf } from "./curves";
import { bytes, curvesOf, POINT_BYTES, type Curve } from "./data";
import { codeLine, h, hideStatic, ownKeys, s } from "./dom";
import { layered, type Child } from "./graph";
import { duration } from "./duration";
import { quoted } from "./lines";
import { ask, listening, onEnd, type Context, type Model } from "./model";
import { text } from "./rows";

interface Card {
  name: string;
  title: string;
  kind: string;
  url: string;
  status: string;
  over: boolean;
  can_cancel: boolean;
  elapsed: number | null; // seconds
  progress: { share: number; text: string } | null;
  error: string;
  note?: string;
  children: Child[];
  edges: [string, string][];
}

const SHAPES: Record<string, string> = { Completed: "✓", Failed: "✗", Canceled: "■", Running: "▶" };

class JobCard {
  private card!: Card;
  private got = performance.now();
  private alive = false;
  private follow = true;
  private query = "";
  private readonly head = h("div", { class: "aml-bar aml-head" });
  private readonly bar = h("div");
  private readonly metrics = h("div", { class: "aml-sparks", role: "list", "aria-label": "metrics" });
  private readonly graph = h("div");
  private readonly log = h("pre", { class: "aml-log", tabindex: 0, role: "log", "aria-live": "off", "aria-label": "last lines of the log" });
  private readonly elapsed = h("span", { class: "aml-elapsed", title: "elapsed" });
  private readonly note = h("span", { class: "aml-note", role: "status" });
  private readonly line = codeLine();
  private readonly listen;
  private readonly undo: (() => void)[] = [];
  private following!: HTMLInputElement;

  constructor(
    private readonly model: Model,
    el: HTMLElement,
  ) {
    this.listen = listening(model);
    this.listen.on("change:card", () => this.draw());
    this.listen.on("change:log", () => this.drawLog());
    this.listen.on("change:series", () => this.drawMetrics());
    this.listen.on("change:points", () => this.drawMetrics());
    this.listen.on("msg:custom", (content: any) => (content.kind === "open" ? void window.open(content.url, "_blank", "noopener") : this.live(true)));
    onEnd(this.listen, model, () => this.live(false));
    el.classList.add("aml-widget", "aml-card");
    el.append(this.head, this.bar, this.metrics, this.graph, this.logBar(), this.log, this.line.element);
    this.draw();
    this.drawLog();
    this.drawMetrics();
    const timer = setInterval(() => this.tick(), 1000);
    const size = new ResizeObserver(() => {
      if (!el.clientWidth) return;
      size.disconnect();
      this.undo.push(hideStatic(el));
      this.drawLog();
    });
    size.observe(el);
    this.undo.push(() => clearInterval(timer), () => size.disconnect(), ownKeys(el));
    ask(model, { want: "alive" });
  }

  destroy(): void {
    this.listen.stop();
    this.undo.forEach((act) => act());
  }

  /** Whether a kernel answers: without one the card is what was seen last. */
  private live(alive: boolean): void {
    this.alive = alive;
    this.draw();
  }

  private say(verb: string): void {
    this.line.set(`%aml job ${verb} -n ${quoted(this.card.name)}`);
  }

  private draw(): void {
    this.card = this.model.get("card");
    this.got = performance.now();
    const { title, kind, status, url, can_cancel, error } = this.card;
    const shape = SHAPES[status] ?? "…";
    const focus = this.head.querySelector(":focus")?.className;
    this.head.replaceChildren(
      h("b", {}, title),
      h("span", { class: "aml-faint" }, [kind, this.card.name === title ? "" : this.card.name].filter(Boolean).join(" · ")),
      h("span", { class: `aml-status aml-${status.toLowerCase()}`, role: "status" }, `${shape} ${status}`),
      this.elapsed,
      h("button", { type: "button", class: "aml-cancel", disabled: !can_cancel || !this.alive, onclick: () => this.cancel() }, "Cancel"),
      url ? h("a", { href: url, target: "_blank", rel: "noopener", class: "aml-open", onclick: (event: Event) => this.open(event) }, "Open") : "",
      this.note,
    );
    if (focus) this.head.querySelector<HTMLElement>(`.${focus}`)?.focus();
    this.note.textContent = this.card.note || error || (this.alive || this.card.over ? "" : "as last seen: it needs a kernel to go on, run the cell again");
    if (!this.line.element.querySelector("code")?.textContent) this.say(this.card.over ? "show" : "stream");
    this.tick();
    this.drawProgress();
    this.graph.replaceChildren(...(this.card.children.length ? [layered(this.card.children, this.card.edges)] : []));
  }

  private tick(): void {
    const { elapsed, over } = this.card;
    const since = over || !this.alive ? 0 : (performance.now() - this.got) / 1000;
    this.elapsed.textContent = elapsed === null ? "" : duration(elapsed + since);
  }

  /** The kernel knows the address that signs in too, which no notebook keeps. */
  private open(event: Event): void {
    this.say("show");
    if (this.alive && ask(this.model, { want: "open" })) event.preventDefault();
  }

  private cancel(): void {
    this.say("cancel");
    ask(this.model, { want: "cancel" });
  }

  private drawProgress(): void {
    const { progress, over, status } = this.card;
    if (!progress || (over && status !== "Completed")) return this.bar.replaceChildren();
    this.bar.replaceChildren(h("progress", { max: 1, value: progress.share, "aria-label": "progress" }), h("span", { class: "aml-note" }, ` ${progress.text}`));
  }

  private drawMetrics(): void {
    const series = this.model.get("series");
    const block = bytes(this.model.get("points"));
    const total = series.reduce((sum: number, one: Curve) => sum + one.count, 0);
    if (block.byteLength !== POINT_BYTES * total) return; // the other half of the change comes next
    this.metrics.replaceChildren(...curvesOf(series, block).map((curve, at) => this.spark(curve, at)));
  }

  private spark(curve: Curve, at: number): HTMLElement {
    const last = text(curve.value[curve.value.length - 1]);
    const path = s("path", { d: sparkline(curve.value, 96, 20), stroke: styleOf(at).color });
    return h(
      "div",
      { role: "listitem", "aria-label": `${curve.metric} ${last}`, title: `${curve.metric}: ${curve.count} points` },
      h("span", {}, curve.metric),
      s("svg", { viewBox: "-2 -2 100 24", width: 100, height: 24, "aria-hidden": "true" }, path),
      h("b", {}, last),
    );
  }

  private logBar(): HTMLElement {
    this.following = h("input", { type: "checkbox", checked: true, onchange: () => ((this.follow = this.following.checked), this.say("stream"), this.drawLog()) });
    const search = h("input", { type: "search", placeholder: "search the log", "aria-label": "search the log", oninput: () => ((this.query = search.value.toLowerCase()), this.drawLog()) });
    return h("div", { class: "aml-bar" }, h("label", {}, this.following, " follow the log"), search);
  }

  private drawLog(): void {
    const log: string = this.model.get("log");
    const lines = log.split("\n");
    const found = this.query ? lines.filter((line) => line.toLowerCase().includes(this.query)) : lines;
    this.log.textContent = found.length ? found.join("\n") : `no line has “${this.query}”`;
    this.log.hidden = !log;
    if (this.follow) this.log.scrollTop = this.log.scrollHeight;
  }
}

export default {
  render({ model, el }: Context): () => void {
    const view = new JobCard(model, el);
    return () => view.destroy();
  },
};
