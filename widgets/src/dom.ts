// Small helpers of all views.

type Child = Node | string | null | undefined | false;
type Props = Record<string, unknown>;

/** An element with attributes, `on…` listeners and children. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), props, children);
}

/** The same in SVG. */
export function s<K extends keyof SVGElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): SVGElementTagNameMap[K] {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill<E extends Element>(element: E, props: Props, children: Child[]): E {
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value as EventListener);
    else if (key === "value" || key === "checked") (element as unknown as Props)[key] = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  for (const child of children) if (child || child === "") element.append(child as Node | string);
  return element;
}

/** The colours of the front end's theme, for what is drawn on a canvas. */
export function theme(element: Element): { ink: string; faint: string; grid: string; paper: string } {
  const style = getComputedStyle(element);
  const pick = (name: string) => style.getPropertyValue(name).trim();
  return { ink: pick("--aml-ink"), faint: pick("--aml-faint"), grid: pick("--aml-grid"), paper: pick("--aml-paper") };
}

/** Call back when the front end has changed its theme and laid out the page; returns how to stop. */
export function onTheme(changed: () => void): () => void {
  const observer = new MutationObserver(() => requestAnimationFrame(() => requestAnimationFrame(changed)));
  const attributes = ["data-jp-theme-light", "data-jp-theme-name", "class", "data-vscode-theme-kind"];
  observer.observe(document.body, { attributes: true, attributeFilter: attributes });
  return () => observer.disconnect();
}

export function download(name: string, content: Blob): void {
  const url = URL.createObjectURL(content);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Put text on the clipboard, also where the page is not served securely. */
export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { style: "position:fixed;opacity:0", value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

const SUPPRESS = "data-lm-suppress-shortcuts"; // JupyterLab looks for it at what has the focus

/** Keep keys typed in a view from the notebook's shortcuts, which delete cells; those with Ctrl, as to save, go on. Returns how to stop. */
export function ownKeys(root: HTMLElement): () => void {
  const passes = (event: KeyboardEvent) => event.ctrlKey || event.metaKey;
  const mark = (event: KeyboardEvent) => {
    if (!event.composedPath().includes(root)) return;
    if (passes(event)) root.removeAttribute(SUPPRESS);
    else root.setAttribute(SUPPRESS, "true");
  };
  window.addEventListener("keydown", mark, true); // before the page's own listener
  root.addEventListener("keydown", (event) => passes(event) || event.stopPropagation());
  return () => window.removeEventListener("keydown", mark, true);
}

/** A line of code to copy: what the last click would be when typed. */
export function codeLine(): { element: HTMLElement; set: (line: string) => void } {
  const code = h("code", { tabindex: 0, "aria-label": "the magic line that does the same" });
  const note = h("span", { role: "status", class: "aml-note" });
  const act = async () => {
    await copy(code.textContent ?? "");
    note.textContent = "copied";
    setTimeout(() => (note.textContent = ""), 1500);
  };
  const button = h("button", { type: "button", class: "aml-copy", onclick: act }, "Copy as code");
  return { element: h("div", { class: "aml-line" }, code, button, note), set: (line) => (code.textContent = line) };
}

/** Hide the static form that was put out just before a live view; returns how to bring it back. */
export function hideStatic(element: Element): () => void {
  const hidden: HTMLElement[] = [];
  let output = element.closest(".jp-OutputArea-child")?.previousElementSibling as HTMLElement | null;
  while (output && !hidden.some((one) => one.querySelector(".aml-static"))) {
    hidden.push(output);
    output = output.previousElementSibling as HTMLElement | null;
  }
  if (!hidden.some((one) => one.querySelector(".aml-static"))) return () => undefined;
  for (const one of hidden) one.style.display = "none";
  return () => hidden.forEach((one) => (one.style.display = ""));
}

/** Nice positions for marks on an axis. */
export function ticks(low: number, high: number, count = 5): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((m) => m >= rough) ?? rough;
  const out: number[] = [];
  const first = Math.ceil(low / step) * step;
  // Counted, since a step may be too small to change a large number.
  for (let i = 0, at = first; i <= 2 * count && at <= high + step * 1e-9; at = first + ++i * step) out.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  return out;
}
