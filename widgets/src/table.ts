// The run table: the first thing of a comparison, and the legend of its charts.
import { FEW, swatch } from "./chart";
import type { Column, Run } from "./data";
import { h } from "./dom";
import { duration } from "./duration";
import { best, delta, groupsOf, mean, shownColumns, text, unknown, type View } from "./rows";

const DURATION = "run duration"; // a column's key, in seconds
const ROWS = 200; // shown at first: the browser lays out no more without being asked

interface Acts {
  change: (part: Partial<View>) => void;
  hover: (run: string) => void;
  form: (form: "register" | "deploy", run: string) => void;
}

export class Table {
  readonly element = h("div", { class: "aml-table", tabindex: -1 });
  private limit = ROWS;
  private few = true;
  private stars = new Map<string, string>();
  forms = false; // whether somebody answers them

  constructor(private readonly acts: Acts) {}

  draw(all: Column[], runs: Run[], view: View): void {
    const columns = shownColumns(all, runs, view.differ);
    const groups = groupsOf(runs, view);
    const count = groups.reduce((sum, group) => sum + group.runs.length, 0);
    const base = runs.find((run) => run.id === view.baseline);
    this.stars = new Map(columns.filter(({ kind }) => kind === "metric").map((column) => [column.key, best(runs, column)]));
    this.few = groups.flatMap((group) => group.runs).filter((run) => !view.hidden.includes(run.id)).length <= FEW;
    let room = this.limit;
    const body = groups.flatMap(({ label, runs: members }) => {
      const shown = members.slice(0, Math.max(room, 0));
      room -= shown.length;
      const head = view.group && shown.length ? [this.groupRow(label, members, columns, all.find(({ key }) => key === view.group)?.label ?? "")] : [];
      return [...head, ...shown.map((run) => this.row(run, columns, view, base))];
    });
    const more = count > this.limit && h("button", { type: "button", onclick: () => this.more(all, runs, view) }, `Show all ${count} runs`);
    const focus = this.focused();
    this.element.replaceChildren(
      h(
        "table",
        { "aria-label": `${count} of ${runs.length} runs` },
        h("thead", {}, h("tr", {}, h("td", { class: "aml-acts" }), ...[{ key: "run", label: "run", kind: "fact", type: "text" } as Column, ...columns].map((column) => this.head(column, view)), this.forms && h("td"))),
        h("tbody", {}, ...(count ? body : [this.none(columns, view, all)])),
      ),
      ...(more ? [more] : []),
    );
    if (focus) this.element.querySelector<HTMLElement>(`[data-focus="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
  }

  /** What to say where no run is left. */
  private none(columns: Column[], view: View, all: Column[]): HTMLElement {
    const names = unknown(view.filter, all);
    const known = all.map(({ label }) => label).join(", ");
    const why = names.length ? `no column is called ${names.join(" or ")}; there are ${known}` : "no run matches the filter and the brushes";
    return h("tr", {}, h("td", { colspan: columns.length + 2, class: "aml-none" }, why));
  }

  /** Mark one run's row, as its curve is. */
  highlight(run: string): void {
    for (const row of this.element.querySelectorAll<HTMLElement>("tr[data-run]")) row.classList.toggle("aml-over", row.dataset["run"] === run);
  }

  private focused(): string {
    const active = (this.element.getRootNode() as Document | ShadowRoot).activeElement;
    return active && this.element.contains(active) ? ((active as HTMLElement).dataset["focus"] ?? "") : "";
  }

  private more(all: Column[], runs: Run[], view: View): void {
    this.limit = Infinity;
    this.draw(all, runs, view);
  }

  private head({ key, label, kind, goal }: Column, view: View): HTMLElement {
    const mine = view.sort === key;
    const arrow = mine ? (view.descending ? " ▼" : " ▲") : "";
    const sort = () => this.acts.change(mine && view.descending === (goal !== "max") ? { sort: "", descending: false } : { sort: key, descending: mine ? !view.descending : goal === "max" });
    const hint = goal ? (goal === "min" ? "less is better" : "more is better") : kind === "param" ? "parameter" : "";
    return h(
      "th",
      { scope: "col", class: `aml-${kind}`, "aria-sort": mine ? (view.descending ? "descending" : "ascending") : "none" },
      h("button", { type: "button", title: `sort by ${label}${hint && `; ${hint}`}`, onclick: sort, "data-focus": `head ${key}` }, label, arrow, goal ? h("small", {}, goal === "min" ? " ↓" : " ↑") : ""),
    );
  }

  private groupRow(label: string, members: Run[], columns: Column[], by: string): HTMLElement {
    return h(
      "tr",
      { class: "aml-group" },
      h("td", { class: "aml-acts" }),
      h("th", { scope: "rowgroup" }, swatch(members[0].place, this.few), `${by} = ${label || "none"} · ${members.length} run${members.length === 1 ? "" : "s"}, means`),
      ...columns.map(({ key, kind }) => h("td", {}, kind === "metric" ? text(mean(members, key)) : "")),
      this.forms && h("td", {}),
    );
  }

  private row(run: Run, columns: Column[], view: View, base: Run | undefined): HTMLElement {
    const hidden = view.hidden.includes(run.id);
    const hide = () => this.acts.change({ hidden: hidden ? view.hidden.filter((id) => id !== run.id) : [...view.hidden, run.id] });
    const pinned = view.baseline === run.id;
    const pin = () => this.acts.change({ baseline: pinned ? "" : run.id });
    const hover = (id: string) => () => this.acts.hover(id);
    return h(
      "tr",
      { "data-run": run.id, class: hidden ? "aml-hidden" : "", onmouseenter: hover(run.id), onmouseleave: hover(""), onfocusin: hover(run.id), onfocusout: hover("") },
      h(
        "td",
        { class: "aml-acts" },
        h("input", { type: "checkbox", checked: !hidden, onchange: hide, "aria-label": `draw ${run.name}`, title: "draw or hide", "data-focus": `hide ${run.id}` }),
        h("button", { type: "button", "aria-pressed": String(pinned), onclick: pin, title: "compare the others with this run", "aria-label": `baseline ${run.name}`, "data-focus": `pin ${run.id}` }, pinned ? "◆" : "◇"),
      ),
      h("th", { scope: "row", title: run.id }, swatch(run.place, this.few), run.name),
      ...columns.map((column) => this.cell(run, column, base)),
      this.forms && h("td", { class: "aml-acts" }, this.opens("register", "Register…", run), this.opens("deploy", "Deploy…", run)),
    );
  }

  private opens(form: "register" | "deploy", label: string, run: Run): HTMLElement {
    const open = () => this.acts.form(form, run.id);
    return h("button", { type: "button", class: "aml-opens", onclick: open, "aria-label": `${label} ${run.name}`, "data-focus": `${form} ${run.id}` }, label);
  }

  private cell(run: Run, { key, type }: Column, base: Run | undefined): HTMLElement {
    const value = run.cells[key];
    if (key === DURATION) return h("td", { class: "aml-number" }, isNaN(value as number) ? "" : duration(value as number));
    if (run.nans.has(key)) return h("td", { class: "aml-number" }, "NaN");
    const star = this.stars.get(key) === run.id;
    const change = base && base !== run ? delta(value, base.cells[key]) : "";
    return h(
      "td",
      { class: type === "number" ? "aml-number" : "" },
      star ? h("b", {}, `★ ${text(value)}`, h("span", { class: "aml-sr" }, " best")) : text(value),
      change ? h("small", { class: "aml-delta" }, ` ${change}`) : "",
    );
  }
}
