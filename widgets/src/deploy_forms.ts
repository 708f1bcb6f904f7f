// The forms that register a model, deploy it, ask it, and look after its endpoint.
import { sparkline } from "./curves";
import { deployLine, invokeLine, registerLine, RULES, sum, trafficLine, withShare, type Shares } from "./deploy_lines";
import { type Desk, Refusal } from "./desk";
import { codeLine, h, s } from "./dom";
import { quoted } from "./lines";

interface Column {
  name: string;
  type: string;
}

interface Example {
  body: any; // eslint-disable-line
  columns?: Column[];
  row?: unknown[];
}

interface Offer {
  model: string;
  endpoint: string;
  endpoints: Record<string, Shares>;
  instance_type: string;
  prices: Record<string, number>; // of a machine for an hour, in USD
  example: Example;
}

export interface Endpoint {
  name: string;
  state: string;
  uri: string;
  auth: string;
  deployments: { name: string; share: number; mirrored: number; model: string; state: string; machines: string }[];
}

/** What Azure Monitor counted of a deployment: requests in each minute of the last hour, and milliseconds. */
export interface Load {
  requests: number[];
  p50_ms: number | null;
  p95_ms: number | null;
}

const REFRESH_SECONDS = 15;
let count = 0;

/** A labelled input; what is wrong with its text is said below it while it is typed. */
function field(label: string, input: HTMLInputElement | HTMLSelectElement, rule: (text: string) => string = () => "") {
  const id = `aml-field-${++count}`;
  const wrong = h("span", { class: "aml-wrong", id: `${id}-wrong`, "aria-live": "polite" });
  input.id = id;
  input.setAttribute("aria-describedby", `${id}-wrong`);
  const check = (): boolean => {
    const text = rule(input.value.trim());
    wrong.textContent = text;
    input.setAttribute("aria-invalid", String(Boolean(text)));
    return !text;
  };
  return { element: h("div", { class: "aml-field" }, h("label", { for: id }, label), input, wrong), input, check };
}

function frame(title: string): { element: HTMLElement; body: HTMLElement; note: HTMLElement; line: ReturnType<typeof codeLine> } {
  const body = h("div", { class: "aml-fields" });
  const note = h("div", { role: "status", class: "aml-told" });
  const line = codeLine();
  const element = h("section", { class: "aml-form", "aria-label": title }, h("h4", {}, title), body, line.element, note);
  return { element, body, note, line };
}

function failure(why: unknown): HTMLElement {
  const { message, hint, detail } = why instanceof Refusal ? why : new Refusal(String(why));
  return h(
    "div",
    { role: "alert", class: "aml-alert" },
    h("b", {}, message),
    detail.length ? atItsEnd(h("pre", { class: "aml-log", tabindex: 0 }, detail.join("\n"))) : "",
    hint ? h("div", {}, "hint: ", h("code", {}, hint)) : "",
  );
}

/** The end of a log is what matters: scroll there once it is laid out. */
function atItsEnd<E extends HTMLElement>(element: E): E {
  requestAnimationFrame(() => (element.scrollTop = element.scrollHeight));
  return element;
}

/** Enter in a field does what the form's button does. */
function submits(body: HTMLElement, act: HTMLButtonElement): void {
  body.onkeydown = (event) => {
    if (event.key !== "Enter" || !(event.target instanceof HTMLInputElement) || event.isComposing) return;
    event.preventDefault();
    if (!act.disabled) act.click();
  };
}

const input = (value: string, more: Record<string, unknown> = {}): HTMLInputElement => h("input", { type: "text", value, spellcheck: "false", autocomplete: "off", ...more });
const button = (label: string, onclick: () => void): HTMLButtonElement => h("button", { type: "button", class: "aml-do", onclick }, label);
const select = (values: string[], chosen: string): HTMLSelectElement => h("select", {}, ...values.map((value) => h("option", { value, selected: value === chosen }, value)));

/** Let only one thing be done at a time, and show what it tells. */
async function doing(act: HTMLButtonElement, note: HTMLElement, work: (told: (text: string) => void) => Promise<void>): Promise<void> {
  const told = h("pre", { class: "aml-log" });
  act.disabled = true;
  note.replaceChildren(told);
  told.hidden = true;
  try {
    await work((text) => ((told.hidden = false), told.append(text), (told.scrollTop = told.scrollHeight)));
  } catch (why) {
    note.append(failure(why));
  }
  act.disabled = false;
}

/** Register the model of a run; `then` is called when it goes on to be deployed. */
export function register(desk: Desk, run: string, then: () => void = () => undefined): HTMLElement {
  const { element, body, note, line } = frame("Register a model");
  const fill = async (artifact: string, name: string): Promise<void> => {
    try {
      body.replaceChildren(h("span", { class: "aml-note" }, "reading what the run has logged …"));
      draw(await desk.facts("register", { run, artifact, name }));
    } catch (why) {
      body.replaceChildren(failure(why));
    }
  };
  const draw = (facts: any): void => {
    if (!facts.folders.length) return body.replaceChildren(failure(new Refusal("this run has logged no MLflow model", 'mlflow.sklearn.save_model(m, "model"); mlflow.log_artifacts("model", "model")')));
    const folder = field("model", select(facts.folders, facts.folder));
    const name = field("name", input(facts.name), RULES.model);
    const alias = field("alias", input("", { placeholder: "champion" }), RULES.alias);
    const tags = field("tags", input("", { placeholder: "stage=test" }), RULES.pairs);
    const version = h("span", { class: "aml-note" }, `will be version ${facts.version}`);
    const unsigned = h("input", { type: "checkbox" });
    const signature = facts.signature
      ? h("div", { class: "aml-note" }, "takes ", facts.signature.map((one: Column) => `${one.name || "values"}: ${one.type}`).join(", "))
      : h("label", { class: "aml-wrong" }, unsigned, " it has no signature, and cannot be deployed without a scoring script: register it all the same");
    const fields = [folder, name, alias, tags];
    const act = button("Register", () => void doing(act, note, go));
    const current = (): string =>
      registerLine({ run, folders: facts.folders.length, folder: facts.folder, name: name.input.value.trim(), alias: alias.input.value.trim(), tags: tags.input.value, unsigned: unsigned.checked });
    const go = async (told: (text: string) => void): Promise<void> => {
      const made = (await desk.run(current(), told)).data;
      const model = `${made.name}:${made.version}`;
      const next = button("Deploy…", () => (then(), element.replaceWith(deploy(desk, model))));
      note.replaceChildren(h("p", {}, "registered ", h("b", {}, model), made.alias ? ` as ${made.alias}` : ""), next);
      next.focus();
    };
    const check = (): void => {
      const right = fields.map((one) => one.check()).every(Boolean);
      act.disabled = !right || (!facts.signature && !unsigned.checked);
      line.set(current());
    };
    folder.input.addEventListener("change", () => void fill(folder.input.value, ""));
    name.input.addEventListener("change", () => {
      if (!name.check()) return;
      const asked = { run, artifact: facts.folder, name: name.input.value.trim() };
      const told = (text: string): void => void (version.textContent = text);
      desk.facts("register", asked).then(({ version: next }) => told(`will be version ${next}`), (why) => told(String(why.message)));
    });
    body.replaceChildren(...fields.map((one) => one.element), version, signature, act);
    body.addEventListener("input", check);
    submits(body, act);
    check();
    (name.input as HTMLInputElement).focus();
  };
  void fill("", "");
  return element;
}

/** Deploy a version of a model; then it can be asked. */
export function deploy(desk: Desk, model: string): HTMLElement {
  const { element, body, note, line } = frame(`Deploy ${model}`);
  const draw = (facts: Offer): void => {
    const known = Object.keys(facts.endpoints);
    const list = h("datalist", { id: `aml-list-${++count}` }, ...known.map((value) => h("option", { value })));
    const endpoint = field("endpoint", input(facts.endpoint, { list: list.id }), RULES.endpoint);
    const deployment = field("deployment", input("blue"), RULES.deployment);
    const sizes = h("datalist", { id: `aml-list-${++count}` }, ...Object.keys(facts.prices).map((value) => h("option", { value })));
    const type = field("size", input(facts.instance_type, { list: sizes.id }));
    const machines = field("instances", input("1", { type: "number", min: 1, max: 20 }));
    const share = field("traffic %", input("100", { type: "range", min: 0, max: 100 }));
    const variables = field("variables", input("", { placeholder: "NAME=value" }), RULES.pairs);
    const becomes = h("div", { class: "aml-note", "aria-live": "polite" });
    const fields = [endpoint, deployment, type, machines, share, variables];
    const act = button("Deploy", () => void doing(act, note, go));
    const serving = (): Shares => Object.fromEntries(Object.entries(facts.endpoints[endpoint.input.value.trim()] ?? {}).filter(([, percent]) => percent));
    const others = (): boolean => Object.keys(serving()).some((name) => name !== deployment.input.value.trim());
    const cost = (): string => {
      const price = facts.prices[type.input.value.trim()];
      const hour = (price ?? 0) * (Number(machines.input.value) || 1);
      return price === undefined ? "" : `; about ${hour.toFixed(2)} USD an hour`;
    };
    const current = (): string =>
      deployLine({
        model,
        endpoint: endpoint.input.value.trim(),
        deployment: deployment.input.value.trim(),
        type: type.input.value.trim() === facts.instance_type ? "" : type.input.value.trim(),
        count: Number(machines.input.value) || 1,
        share: others() ? Number(share.input.value) : null,
        variables: variables.input.value,
      });
    const go = async (told: (text: string) => void): Promise<void> => {
      await desk.run(current(), told);
      note.append(h("p", {}, "ready: ", h("b", {}, endpoint.input.value.trim())), tryIt(desk, endpoint.input.value.trim(), facts.example, deployment.input.value.trim()));
    };
    const check = (): void => {
      act.disabled = !fields.map((one) => one.check()).every(Boolean);
      const there = endpoint.input.value.trim() in facts.endpoints;
      share.element.hidden = !others();
      const after = others() ? withShare(serving(), deployment.input.value.trim(), Number(share.input.value)) : { [deployment.input.value.trim()]: 100 };
      const said = Object.entries(after).map(([name, percent]) => `${name} ${percent} %`);
      becomes.textContent = `${there ? "an endpoint that is there" : "a new endpoint"}; traffic will be ${said.join(", ")}${cost()}`;
      line.set(current());
    };
    endpoint.input.addEventListener("change", () => {
      if (others() && share.input.value === "100") share.input.value = "10";
      if (others() && serving()[deployment.input.value.trim()] !== undefined) deployment.input.value = deployment.input.value === "blue" ? "green" : "blue";
      check();
    });
    body.replaceChildren(...fields.map((one) => one.element), list, sizes, becomes, act);
    body.addEventListener("input", check);
    submits(body, act);
    check();
    (endpoint.input as HTMLInputElement).focus();
  };
  body.replaceChildren(h("span", { class: "aml-note" }, "reading endpoints …"));
  desk.facts("deploy", { model }).then(draw, (why) => body.replaceChildren(failure(why)));
  return element;
}

/** Deploy what was registered of a run, or register it first. */
export function deployRun(desk: Desk, run: string): HTMLElement {
  const place = h("div", {}, h("span", { class: "aml-note" }, "looking for registered models of the run …"));
  const draw = ({ models }: { models: string[] }): void => {
    if (models.length) return place.replaceChildren(deploy(desk, models[0]!));
    const note = h("p", { class: "aml-note" }, "no model of this run is registered yet: register it first");
    place.replaceChildren(note, register(desk, run, () => note.remove()));
  };
  desk.facts("models", { run }).then(draw, (why) => place.replaceChildren(failure(why)));
  return place;
}

/** Ask an endpoint: a field for each column, or the request as JSON. */
export function tryIt(desk: Desk, endpoint: string, example: Example, deployment = ""): HTMLElement {
  const { element, body, note, line } = frame("Try it");
  const json = h("textarea", { rows: 5, "aria-label": "request as JSON", spellcheck: "false" });
  json.value = JSON.stringify(example.body, null, 2);
  const columns = example.columns ?? [];
  const inputs = columns.map((column, at) => field(`${column.name} (${column.type})`, typed(column, example.row?.[at])));
  const values = (): unknown[] => inputs.map((one, at) => valueOf(columns[at]!, one.input as HTMLInputElement));
  const asJson = h("input", { type: "checkbox", checked: !columns.length, disabled: !columns.length });
  const request = (): any => (asJson.checked ? JSON.parse(json.value) : { input_data: { columns: columns.map(({ name }) => name), index: [0], data: [values()] } });
  const act = button("Ask", () => void doing(act, note, go));
  const go = async (): Promise<void> => {
    const started = performance.now();
    const { text } = await desk.run(invokeLine(endpoint, request(), deployment));
    const took = Math.round(performance.now() - started);
    note.replaceChildren(h("output", { class: "aml-answer" }, text), h("span", { class: "aml-note" }, ` ${took} ms`));
  };
  const grid = h("div", { class: "aml-fields" }, ...inputs.map((one) => one.element));
  const check = (): void => {
    grid.hidden = asJson.checked;
    json.hidden = !asJson.checked;
    try {
      line.set(invokeLine(endpoint, request(), deployment));
      act.disabled = false;
    } catch {
      act.disabled = true;
      note.replaceChildren(failure(new Refusal("this is not JSON")));
    }
  };
  asJson.addEventListener("change", () => {
    if (asJson.checked) json.value = JSON.stringify({ input_data: { columns: columns.map(({ name }) => name), index: [0], data: [values()] } }, null, 2);
    check();
  });
  body.replaceChildren(grid, json, h("label", {}, asJson, " as JSON"), act);
  body.addEventListener("input", check);
  submits(body, act);
  check();
  return element;
}

const NUMBERS = /^(integer|long|float|double)/;

function typed({ type }: Column, value: unknown): HTMLInputElement {
  if (type.startsWith("boolean")) return h("input", { type: "checkbox", checked: Boolean(value) });
  return input(value === null || value === undefined ? "" : String(value), NUMBERS.test(type) ? { type: "number", step: "any" } : {});
}

/** An empty field is a value that is missing. */
function valueOf({ type }: Column, one: HTMLInputElement): unknown {
  if (type.startsWith("boolean")) return one.checked;
  if (one.value === "") return null;
  return NUMBERS.test(type) ? Number(one.value) : one.value;
}

/** Request rate and latency of a deployment, in a cell of a table. */
export function drawLoad(cell: HTMLElement, load: Load | undefined): void {
  if (!load) return cell.replaceChildren(h("span", { class: "aml-note" }, "none in this hour"));
  const rate = Math.max(...load.requests.slice(-2));
  const total = load.requests.reduce((all, one) => all + one, 0);
  const curve = s("svg", { width: 72, height: 16, "aria-hidden": "true" }, s("path", { d: sparkline(load.requests, 72, 16), fill: "none", stroke: "currentColor" }));
  const ms = (value: number | null): string => (value === null ? "–" : `${value.toFixed(value < 10 ? 1 : 0)} ms`);
  cell.title = `${total} requests in the last hour`;
  cell.replaceChildren(curve, ` ${rate}/min `, h("small", {}, `p50 ${ms(load.p50_ms)} · p95 ${ms(load.p95_ms)}`));
}

/** An endpoint: its deployments, their shares, logs, a question, its end. `atEnd` takes what ends its refreshing. */
export function endpoint(desk: Desk, first: Endpoint, atEnd: (act: () => void) => void = () => undefined): HTMLElement {
  const place = h("div", { class: "aml-form" });
  const note = h("div", { role: "status", class: "aml-told" });
  const elsewhere = h("div", { role: "status", class: "aml-note" });
  let loads: Record<string, HTMLElement> = {};
  let known = "";
  let moved = false; // a slider, by hand
  const show = (facts: Endpoint): void => {
    known = JSON.stringify(facts);
    moved = false;
    elsewhere.replaceChildren();
    loads = Object.fromEntries(facts.deployments.map((one) => [one.name, h("td", { class: "aml-load" })]));
    place.replaceChildren(...parts(facts));
    void measure();
  };
  const measure = async (): Promise<void> => {
    const found = await desk.facts("metrics", { name: first.name }).catch(() => null);
    for (const [name, cell] of Object.entries(loads)) if (found) drawLoad(cell, found.deployments[name]);
  };
  const timer = setInterval(() => {
    const isSeen = place.isConnected && document.visibilityState === "visible"; // a cell out of view is detached
    if (isSeen) void look();
  }, 1000 * REFRESH_SECONDS);
  atEnd(() => clearInterval(timer));
  const read = (): Promise<Endpoint> => desk.facts("endpoint", { name: first.name });
  const again = async (): Promise<void> => show(await read());
  /** Look what others have changed: shown at once, unless sliders were moved here meanwhile. */
  const look = async (): Promise<void> => {
    const found = await read().catch((why) => void elsewhere.replaceChildren(`cannot be read: ${why.message}`));
    if (!found) return;
    if (JSON.stringify(found) === known) return void measure();
    if (moved) elsewhere.replaceChildren(`changed meanwhile: ${said(found)}; `, button("Show", () => show(found)));
    else show(found);
  };
  const said = ({ deployments }: Endpoint): string => deployments.map(({ name, share }) => `${name} ${share} %`).join(", ") || "no deployment";
  /** Set shares, unless others have changed them since they were shown. */
  const set = async (line: string): Promise<void> => {
    const found = await read();
    if (JSON.stringify(found.deployments.map(({ name, share }) => [name, share])) !== JSON.stringify(JSON.parse(known).deployments.map((one: Endpoint["deployments"][0]) => [one.name, one.share]))) {
      show(found);
      throw new Refusal(`changed meanwhile: ${said(found)}`, "set the sliders again");
    }
    await desk.run(line);
    await again();
  };

  const parts = (facts: Endpoint): HTMLElement[] => {
    const line = codeLine();
    const sliders = facts.deployments.map((one) => h("input", { type: "range", min: 0, max: 100, value: one.share, "aria-label": `traffic of ${one.name}` }));
    const outs = facts.deployments.map(() => h("output"));
    const left = h("span", { class: "aml-note", "aria-live": "polite" });
    const shares = (): Shares => Object.fromEntries(facts.deployments.map((one, at) => [one.name, Number(sliders[at]!.value)]));
    const apply = button("Apply", () => void doing(apply, note, () => set(trafficLine(facts.name, shares()))));
    const back = button("Roll back", () => void doing(back, note, async () => void ((await desk.run(`%aml rollback ${quoted(facts.name)}`)), await again())));
    const check = (): void => {
      const total = sum(shares());
      outs.forEach((out, at) => (out.textContent = `${sliders[at]!.value} %`));
      left.textContent = total === 100 ? "" : total < 100 ? `${100 - total} % left to give` : `${total - 100} % too much`;
      apply.disabled = total !== 100;
      line.set(trafficLine(facts.name, shares()));
    };
    const logs = button("Logs", () =>
      void doing(logs, note, async () => {
        const read = `%aml endpoint logs ${quoted(facts.name)}`;
        line.set(read);
        const { text } = await desk.run(read);
        note.replaceChildren(atItsEnd(h("pre", { class: "aml-log", tabindex: 0, "aria-label": "logs" }, text)));
      }),
    );
    const ask = button("Try it…", () =>
      void doing(ask, note, async () => {
        const model = facts.deployments.reduce((best, one) => (one.share > best.share ? one : best)).model;
        const { example } = await desk.facts("deploy", { model });
        note.replaceChildren(tryIt(desk, facts.name, example));
      }),
    );
    const rows = facts.deployments.map((one, at) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, one.name),
        h("td", {}, one.model),
        h("td", {}, one.state === "Succeeded" ? "✓ ready" : one.state),
        h("td", {}, one.machines),
        loads[one.name]!,
        h("td", {}, sliders[at]!, " ", outs[at]!, one.mirrored ? h("small", {}, ` and ${one.mirrored} % mirrored`) : ""),
      ),
    );
    const heads = ["deployment", "model", "state", "machines", "requests", "traffic"].map((text) => h("th", { scope: "col" }, text));
    const table = h("table", {}, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...rows));
    table.addEventListener("input", () => ((moved = true), check()));
    const refresh = button("Refresh", () => void doing(refresh, note, again));
    const key = h("span", { class: "aml-note", title: "the keys are not kept in the notebook" }, `${facts.auth}: •••••••• `, h("code", {}, `%aml online-endpoint get-credentials ${quoted(facts.name)}`));
    if (facts.deployments.length) check();
    else apply.disabled = ask.disabled = true;
    return [
      h("h4", {}, facts.name, h("span", { class: "aml-note" }, ` ${facts.state} · ${facts.uri}`)),
      facts.deployments.length ? table : h("p", { class: "aml-note" }, "no deployment yet"),
      elsewhere,
      h("div", { class: "aml-bar" }, apply, left, back, ask, logs, refresh, ...remove(facts.name, note, line.set)),
      key,
      line.element,
      note,
    ];
  };

  /** Its name has to be typed: what is deleted does not come back. */
  const remove = (name: string, note: HTMLElement, say: (line: string) => void): HTMLElement[] => {
    const typed = input("", { placeholder: `type ${name} to delete it`, "aria-label": `type ${name} to delete it` });
    const line = `%aml endpoint delete ${quoted(name)} --yes`;
    const act = button("Delete", () =>
      void doing(act, note, async () => {
        await desk.run(line);
        clearInterval(timer);
        place.replaceChildren(h("p", {}, `deleted ${name}`));
      }),
    );
    act.disabled = true;
    typed.addEventListener("input", () => {
      act.disabled = typed.value !== name;
      if (!act.disabled) say(line);
    });
    return [typed, act];
  };
  show(first);
  return place;
}
