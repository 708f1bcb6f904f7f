// @vitest-environment jsdom
import { describe, expect, it, vi } from "vitest";
import { deploy, drawLoad, endpoint, register, tryIt } from "../src/deploy_forms";
import { deployLine, invokeLine, registerLine, RULES, trafficLine, withShare } from "../src/deploy_lines";
import { Desk, Refusal } from "../src/desk";

const ONE = { run: "r1", folders: 1, folder: "model", name: "wine", alias: "", tags: "", unsigned: false };
const MADE = { model: "wine:1", endpoint: "wine", deployment: "blue", type: "", count: 1, share: null, variables: "" };

describe("lines", () => {
  it.each([
    [ONE, "%aml register r1 --name wine"],
    [{ ...ONE, folders: 2, alias: "champion", tags: "a=b c=d" }, "%aml register r1 --artifact model --name wine --tags a=b c=d --alias champion"],
    [{ ...ONE, unsigned: true }, "%aml register r1 --name wine --allow-no-signature"],
  ])("register", (one, line) => expect(registerLine(one)).toBe(line));

  it.each([
    [MADE, "%aml deploy wine:1 --endpoint wine --deployment blue"],
    [{ ...MADE, share: 10, count: 2, type: "Big", variables: "A=1" }, "%aml deploy wine:1 --endpoint wine --deployment blue --traffic 10 --instance-type Big --instance-count 2 --env-var A=1"],
  ])("deploy", (one, line) => expect(deployLine(one)).toBe(line));

  it("traffic and questions", () => {
    expect(trafficLine("e", { blue: 90, green: 10 })).toBe("%aml traffic e blue=90 green=10");
    expect(invokeLine("e", { input_data: ["it's"] }, "green")).toBe(`%aml invoke e '{"input_data":["it\\u0027s"]}' --deployment green`);
  });

  it.each([
    [{ blue: 100 }, 10, { blue: 90, green: 10 }],
    [{ blue: 50, red: 50 }, 1, { blue: 50, red: 49, green: 1 }],
    [{}, 100, { green: 100 }],
  ])("a share is taken from the others", (before, percent, after) => expect(withShare(before, "green", percent)).toEqual(after));
});

describe("rules", () => {
  it.each([
    ["model", "wine.v1", true],
    ["model", "-wine", false],
    ["alias", "", true],
    ["alias", "latest", false],
    ["alias", "v2", false],
    ["endpoint", "wine-1", true],
    ["endpoint", "w", false],
    ["endpoint", "a_b_c", false],
    ["endpoint", "a--b", false],
    ["pairs", "a=b c=d", true],
    ["pairs", "a", false],
  ] as const)("%s %s", (rule, text, right) => expect(!RULES[rule](text)).toBe(right));
});

describe("the desk", () => {
  it("gives answers to who asked, with what was told before", async () => {
    const sent: any[] = [];
    const desk = new Desk((wish) => (sent.push(wish), true));
    const told: string[] = [];
    const [first, second] = [desk.run("a", (text) => told.push(text)), desk.run("b")];
    desk.hear({ kind: "form", id: sent[1].id, error: "no", hint: "try", detail: [] });
    desk.hear({ kind: "form", id: sent[0].id, told: "working" });
    desk.hear({ kind: "form", id: sent[0].id, done: { text: "done" } });
    expect(await first).toEqual({ text: "done" });
    await expect(second).rejects.toThrow("no");
    expect(told).toEqual(["working"]);
    expect(desk.hear({ kind: "curves" })).toBe(false);
  });

  it("hears only what it asked for itself", async () => {
    const sent: any[] = [];
    const [mine, other] = [0, 1].map(() => new Desk((wish) => (sent.push(wish), true)));
    const answer = mine!.run("a");
    void other!.run("b");
    for (const one of [mine!, other!]) for (const [at, text] of ["of b", "of a"].entries()) one.hear({ kind: "form", id: sent[1 - at].id, done: { text } });
    expect(await answer).toEqual({ text: "of a" });
  });

  it("says that no kernel answers", async () => {
    await expect(new Desk(() => false).run("a")).rejects.toBeInstanceOf(Refusal);
  });
});

const desk = (answers: Record<string, any>) => {
  const lines: string[] = [];
  const made = new Desk((wish: any) => {
    if (wish.want === "run") lines.push(wish.line);
    queueMicrotask(() => made.hear({ kind: "form", id: wish.id, done: answers[wish.form ?? "run"] }));
    return true;
  });
  return { made, lines };
};
const type = (element: Element, text: string): void => {
  (element as HTMLInputElement).value = text;
  element.dispatchEvent(new Event("input", { bubbles: true }));
};

describe("forms", () => {
  it("registers what has a signature, and keeps the line in step", async () => {
    const facts = { run: "r1", folders: ["model"], folder: "model", name: "model", version: "3", signature: [{ name: "x", type: "double" }] };
    const { made, lines } = desk({ register: facts, run: { text: "", data: { name: "wine", version: "3", alias: "" } } });
    const form = register(made, "r1");
    await vi.waitFor(() => expect(form.textContent).toContain("will be version 3"));
    const [name, alias] = form.querySelectorAll("input");
    const button = [...form.querySelectorAll("button")].find((one) => one.textContent === "Register")!;
    type(name!, "w ine");
    expect(button.disabled).toBe(true);
    expect(form.textContent).toContain("letters, digits");
    type(name!, "wine");
    type(alias!, "champion");
    expect(form.querySelector(".aml-line code")!.textContent).toBe("%aml register r1 --name wine --alias champion");
    button.click();
    await vi.waitFor(() => expect(form.textContent).toContain("registered wine:3"));
    expect(lines).toEqual(["%aml register r1 --name wine --alias champion"]);
  });

  it("does not register what has none unless told to", async () => {
    const facts = { run: "r1", folders: ["model"], folder: "model", name: "model", version: "1", signature: null };
    const form = register(desk({ register: facts }).made, "r1");
    await vi.waitFor(() => expect(form.textContent).toContain("no signature"));
    const button = [...form.querySelectorAll("button")].find((one) => one.textContent === "Register")!;
    expect(button.disabled).toBe(true);
    document.body.append(form);
    const box = form.querySelector<HTMLInputElement>("input[type=checkbox]")!;
    box.click();
    expect(button.disabled).toBe(false);
  });

  it("says what machines cost where the service tells, and what becomes of the traffic", async () => {
    const facts = { model: "wine:2", endpoint: "wine", endpoints: { wine: { blue: 100 } }, instance_type: "Big", prices: { Big: 0.25 }, example: { body: {} } };
    const { made, lines } = desk({ deploy: facts, run: { text: "", data: {} } });
    const form = deploy(made, "wine:2");
    await vi.waitFor(() => expect(form.textContent).toContain("0.25 USD an hour"));
    const [, name, size, machines, share] = form.querySelectorAll("input");
    type(machines!, "2");
    expect(form.textContent).toContain("0.50 USD an hour");
    type(size!, "Odd");
    expect(form.textContent).not.toContain("USD");
    type(name!, "green");
    type(share!, "20");
    expect(form.textContent).toContain("blue 80 %, green 20 %");
    [...form.querySelectorAll("button")].find((one) => one.textContent === "Deploy")!.click();
    await vi.waitFor(() => expect(lines).toEqual(["%aml deploy wine:2 --endpoint wine --deployment green --traffic 20 --instance-type Odd --instance-count 2"]));
  });

  it("asks with a value of each column's type, empty ones missing", async () => {
    const columns = [{ name: "a", type: "double" }, { name: "b", type: "string" }, { name: "c", type: "boolean" }, { name: "d", type: "long (optional)" }];
    const { made, lines } = desk({ run: { text: "[7.0]" } });
    const form = tryIt(made, "e", { body: {}, columns, row: [1.5, "x", true, null] });
    [...form.querySelectorAll("button")].find((one) => one.textContent === "Ask")!.click();
    await vi.waitFor(() => expect(form.querySelector("output")!.textContent).toBe("[7.0]"));
    expect(lines[0]).toContain('"data":[[1.5,"x",true,null]]');
  });

  it.each([
    [undefined, "none in this hour"],
    [{ requests: [...new Array(58).fill(0), 12, 3], p50_ms: 3.14, p95_ms: 25.2 }, "12/min p50 3.1 ms · p95 25 ms"],
    [{ requests: [4], p50_ms: null, p95_ms: null }, "4/min p50 – · p95 –"],
  ])("tells the rate of requests", (load, text) => {
    const cell = document.createElement("td");
    drawLoad(cell, load);
    expect(cell.textContent!.trim()).toBe(text);
  });

  it("does not overwrite what others have changed meanwhile", async () => {
    const one = { name: "blue", share: 100, mirrored: 0, model: "m:1", state: "Succeeded", machines: "" };
    const facts = (...shares: number[]) => ({ name: "e", state: "", uri: "", auth: "key", deployments: shares.map((share, at) => ({ ...one, name: ["blue", "green"][at]!, share })) });
    const { made, lines } = desk({ endpoint: facts(50, 50), run: { text: "" } });
    const view = endpoint(made, facts(100, 0));
    const find = (label: string) => [...view.querySelectorAll("button")].find((b) => b.textContent === label)!;
    const [blue, green] = view.querySelectorAll("input[type=range]");
    type(blue!, "90");
    type(green!, "10");
    find("Apply").click();
    await vi.waitFor(() => expect(view.textContent).toContain("changed meanwhile: blue 50 %, green 50 %"));
    expect(lines).toEqual([]);
    expect([...view.querySelectorAll<HTMLInputElement>("input[type=range]")].map(({ value }) => value)).toEqual(["50", "50"]);
    find("Apply").click();
    await vi.waitFor(() => expect(lines).toEqual(["%aml traffic e blue=50 green=50"]));
  });

  it("submits by Enter, and takes tags with commas", async () => {
    const facts = { run: "r", folders: ["m"], folder: "m", name: "m", version: "1", signature: [] };
    const { made, lines } = desk({ register: facts, run: { text: "", data: { name: "m", version: "1" } } });
    const form = register(made, "r");
    await vi.waitFor(() => expect(form.querySelectorAll("input").length).toBeGreaterThan(2));
    const tags = form.querySelectorAll("input")[2]!;
    type(tags, "stage=test, who=me");
    tags.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
    await vi.waitFor(() => expect(lines).toEqual(["%aml register r --name m --tags stage=test who=me"]));
  });

  it("applies shares that are 100 in all, and deletes what was named", async () => {
    const one = { name: "blue", share: 100, mirrored: 0, model: "m:1", state: "Succeeded", machines: "" };
    const facts = { name: "e", state: "", uri: "", auth: "key", deployments: [one, { ...one, name: "green", share: 0 }] };
    const { made, lines } = desk({ endpoint: facts, run: { text: "" } });
    const view = endpoint(made, facts);
    const find = (label: string) => [...view.querySelectorAll("button")].find((b) => b.textContent === label)!;
    const [blue, green] = view.querySelectorAll("input[type=range]");
    type(blue!, "60");
    expect(find("Apply").disabled).toBe(true);
    expect(view.textContent).toContain("40 % left to give");
    type(green!, "40");
    find("Apply").click();
    await vi.waitFor(() => expect(lines).toEqual(["%aml traffic e blue=60 green=40"]));
    await vi.waitFor(() => expect(find("Delete").disabled).toBe(true));
    type(view.querySelector("input[type=text]")!, "e");
    find("Delete").click();
    await vi.waitFor(() => expect(view.textContent).toBe("deleted e"));
  });
});
