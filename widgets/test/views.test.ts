// @vitest-environment jsdom
import { beforeEach, expect, test, vi } from "vitest";
import { artifacts } from "../src/artifacts";
import { codeLine, h, hideStatic, ticks } from "../src/dom";
import { layered } from "../src/graph";
import card from "../src/job_card";

globalThis.ResizeObserver ??= class {
  observe() {}
  unobserve() {}
  disconnect() {}
};

/** A model as anywidget's, on plain values. */
function model(values: Record<string, unknown>) {
  const heard = new Map<string, Set<(...args: unknown[]) => void>>();
  return {
    sent: [] as unknown[],
    get: (name: string) => values[name],
    set: (name: string, value: unknown) => ((values[name] = value), heard.get(`change:${name}`)?.forEach((call) => call())),
    save_changes: () => undefined,
    on: (event: string, call: () => void) => void (heard.get(event) ?? heard.set(event, new Set()).get(event)!).add(call),
    off: (event: string, call?: () => void) => void heard.get(event)?.delete(call!),
    send(content: unknown) {
      this.sent.push(content);
      if ((content as { want: string }).want === "alive") heard.get("msg:custom")?.forEach((call) => call({ kind: "alive" }, []));
    },
    heard,
  };
}

const CARD = { name: "j1", title: "train", kind: "Command", url: "", status: "Running", over: false, can_cancel: true, elapsed: 5, progress: { share: 0.5, text: "1 of 2" }, error: "", children: [], edges: [] };

beforeEach(() => document.body.replaceChildren());

test("a card tells its status and offers to cancel, as a line too", () => {
  const one = model({ card: CARD, log: "a\nb", series: [], points: null });
  const el = document.body.appendChild(h("div"));
  card.render({ model: one, el });
  el.querySelector<HTMLElement>(".aml-cancel")!.click();
  expect(one.sent).toContainEqual({ want: "cancel" });
  expect(el.querySelector("code")!.textContent).toBe("%aml job cancel -n j1");
  expect(el.querySelector("progress")!.value).toBe(0.5);
  one.set("card", { ...CARD, status: "Completed", over: true, can_cancel: false });
  expect(el.querySelector(".aml-status")!.textContent).toContain("Completed");
  expect(el.querySelector<HTMLButtonElement>(".aml-cancel")!.disabled).toBe(true);
});

test("a removed card listens no more", () => {
  vi.useFakeTimers();
  const one = model({ card: CARD, log: "", series: [], points: null });
  card.render({ model: one, el: h("div") })();
  expect([...one.heard.values()].every((calls) => !calls.size)).toBe(true);
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

test("the log is searched", () => {
  const el = h("div");
  card.render({ model: model({ card: CARD, log: "one\ntwo\nTwo", series: [], points: null }), el });
  const search = el.querySelector<HTMLInputElement>("input[type=search]")!;
  search.value = "two";
  search.dispatchEvent(new Event("input"));
  expect(el.querySelector(".aml-log")!.textContent).toBe("two\nTwo");
});

test("the static form before a live view is hidden, and only that", () => {
  const output = (inner: Node) => h("div", { class: "jp-OutputArea-child" }, inner);
  const [other, table, picture] = [output(h("p")), output(h("table", { class: "aml-static" })), output(h("img"))];
  const live = h("div");
  document.body.append(h("div", {}, other, table, picture, output(live)));
  const back = hideStatic(live);
  expect([other, table, picture].map(({ style }) => style.display)).toEqual(["", "none", "none"]);
  back();
  expect(table.style.display).toBe("");
});

test("nothing is hidden where there is no static form", () => {
  const before = h("div", { class: "jp-OutputArea-child" }, h("p"));
  const live = h("div");
  document.body.append(before, h("div", { class: "jp-OutputArea-child" }, live));
  hideStatic(live);
  expect(before.style.display).toBe("");
});

test("child jobs tell their status in words", () => {
  const picture = layered([{ name: "x", title: "prep", status: "Completed" }, { name: "y", title: "train", status: "Running" }], [["prep", "train"]]);
  expect([...picture.querySelectorAll("[role=listitem]")].map((one) => one.getAttribute("aria-label"))).toEqual(["prep: Completed", "train: Running"]);
  expect(picture.querySelectorAll(".aml-edge").length).toBe(1);
});

test("text is content, never markup", () => {
  const line = codeLine();
  line.set("<img src=x onerror=alert(1)>");
  expect(line.element.querySelector("img")).toBeNull();
});

test("marks of an axis are round numbers, and end also where a step is too small for its numbers", () => {
  expect(ticks(0, 1)).toHaveLength(6);
  expect(ticks(0, 10)).toEqual([0, 2, 4, 6, 8, 10]);
  expect(ticks(1e16, 1e16 + 4).length).toBeLessThan(20);
});

test("an artifact that cannot be read says why, and is asked for again after a refresh", () => {
  const asked: any[] = [];
  const files = artifacts((wish) => asked.push(wish), () => undefined);
  const run = { id: "r1", index: 0, place: 0, name: "red", cells: {}, nans: new Set<string>() };
  const place = files.draw([run], "", true);
  files.failed({ run: "r1" }, "the workspace does not answer");
  expect(place.textContent).toContain("does not answer");
  files.hear({ kind: "files", run: "r1", files: [] }, new ArrayBuffer(0));
  expect(place.textContent).toContain("no artifacts");
  files.forget();
  files.draw([run], "", true);
  expect(asked).toEqual([{ want: "files", run: "r1" }, { want: "files", run: "r1" }]);
  expect(place.textContent).toContain("reading");
});
