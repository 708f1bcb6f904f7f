// Files of two runs side by side: images and text.
import type { Run } from "./data";
import { h } from "./dom";

export interface Artifacts {
  draw(runs: Run[], baseline: string, alive: boolean): HTMLElement;
  failed(wish: { run: string; path?: string }, why: string): void;
  forget(): void;
  hear(content: { kind: string; run: string; files?: string[]; path?: string; type?: string; size?: number }, block: ArrayBuffer): void;
}

interface Seen {
  type: string;
  size: number;
  text: string;
  url: string;
}

export function artifacts(ask: (wish: Record<string, unknown>) => void, chosenFile: (run: string, path: string) => void): Artifacts {
  const files = new Map<string, string[]>();
  const contents = new Map<string, Seen>();
  const asked = new Set<string>();
  const failures = new Map<string, string>();
  const place = h("div", { class: "aml-sides" });
  let chosen: string[] = [];
  let path = "";
  let runs: Run[] = [];

  const once = (key: string, wish: Record<string, unknown>) => {
    if (asked.has(key)) return;
    asked.add(key);
    ask(wish);
  };

  const fill = () => {
    for (const run of chosen) once(run, { want: "files", run });
    const paths = [...new Set(chosen.flatMap((run) => files.get(run) ?? []))].sort();
    if (!paths.includes(path)) path = paths.find((one) => /\.(png|jpe?g|gif)$/i.test(one)) ?? paths[0] ?? "";
    for (const run of chosen) if (path && files.get(run)?.includes(path)) once(`${run}\n${path}`, { want: "file", run, path });
    const select = h("select", { "aria-label": "file", onchange: () => ((path = select.value), fill(), chosenFile(chosen[0], path)) }, ...paths.map((one) => h("option", { value: one }, one)));
    select.value = path;
    place.replaceChildren(h("label", { class: "aml-wide" }, "File ", select), ...[0, 1].map(side));
  };

  const side = (at: number): HTMLElement => {
    const select = h("select", { "aria-label": at ? "right run" : "left run", onchange: () => ((chosen[at] = select.value), fill(), path && chosenFile(chosen[at], path)) }, ...runs.map((run) => h("option", { value: run.id }, run.name)));
    select.value = chosen[at] ?? "";
    return h("section", {}, select, shown(chosen[at]));
  };

  const shown = (run: string | undefined): HTMLElement => {
    const name = runs.find(({ id }) => id === run)?.name ?? "";
    const content = contents.get(`${run}\n${path}`);
    if (!run) return h("p", {}, "no second run");
    const why = failures.get(run) ?? failures.get(`${run}\n${path}`);
    if (why) return h("p", {}, why);
    if (!files.has(run)) return h("p", {}, "reading …");
    if (!files.get(run)!.length) return h("p", {}, "no artifacts");
    if (!files.get(run)!.includes(path)) return h("p", {}, `${name} has no ${path}`);
    if (!content) return h("p", {}, "reading …");
    if (content.url) return h("img", { src: content.url, alt: `${path} of ${name}` });
    return h("pre", { tabindex: 0, "aria-label": `${path} of ${name}` }, content.text);
  };

  return {
    draw(all, baseline, alive) {
      if (!alive) return h("p", {}, "Artifacts are read by the kernel: run the cell again.");
      runs = all;
      const ids = all.map(({ id }) => id);
      const first = [...(ids.includes(baseline) ? [baseline] : []), ...ids];
      chosen = chosen.length && chosen.every((id) => ids.includes(id)) ? chosen : [...new Set(first)].slice(0, 2);
      fill();
      return place;
    },
    failed({ run, path: file }, why) {
      failures.set(file ? `${run}\n${file}` : run, why);
      fill();
    },
    forget() {
      for (const { url } of contents.values()) if (url) URL.revokeObjectURL(url);
      for (const all of [files, contents, asked, failures]) all.clear();
    },
    hear(content, block) {
      failures.delete(content.kind === "files" ? content.run : `${content.run}\n${content.path}`);
      if (content.kind === "files") files.set(content.run, content.files ?? []);
      else {
        const before = contents.get(`${content.run}\n${content.path}`)?.url;
        if (before) URL.revokeObjectURL(before);
        const type = content.type ?? "text/plain";
        const image = type.startsWith("image/");
        const text = image ? "" : new TextDecoder().decode(block) + (block.byteLength < (content.size ?? 0) ? "\n…" : "");
        const url = image ? URL.createObjectURL(new Blob([block], { type })) : "";
        contents.set(`${content.run}\n${content.path}`, { type, size: content.size ?? 0, text, url });
      }
      fill();
    },
  };
}
