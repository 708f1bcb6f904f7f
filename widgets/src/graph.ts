// Child jobs as a graph: steps of a pipeline in layers, trials of a sweep in rows.
import { s } from "./dom";

export interface Child {
  name: string;
  title: string;
  status: string;
  detail?: string; // of a trial, its parameters
}

const BOX = { width: 150, height: 34, across: 190, down: 46 };
const ROW = 5; // children beside each other where none waits for another
const MOST = 60; // children that are drawn

/** The layer of each child: one more than the last of those it waits for. */
export function layers(titles: string[], edges: [string, string][]): Map<string, number> {
  const found = new Map(titles.map((title) => [title, 0]));
  for (let round = 0; round < titles.length; round++) {
    let moved = false;
    for (const [from, to] of edges) {
      const least = (found.get(from) ?? -1) + 1;
      if (found.has(from) && found.has(to) && found.get(to)! < least && least < titles.length) {
        found.set(to, least);
        moved = true;
      }
    }
    if (!moved) break;
  }
  return found;
}

/** Where each child is drawn. */
export function placed(titles: string[], edges: [string, string][]): { x: number; y: number }[] {
  if (!edges.length) return titles.map((_, at) => ({ x: (at % ROW) * BOX.across, y: Math.floor(at / ROW) * BOX.down }));
  const layer = layers(titles, edges);
  const filled = new Map<number, number>();
  return titles.map((title) => {
    const at = layer.get(title)!;
    const row = filled.get(at) ?? 0;
    filled.set(at, row + 1);
    return { x: at * BOX.across, y: row * BOX.down };
  });
}

const short = (text: string, most: number) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

export function layered(children: Child[], edges: [string, string][]): SVGElement {
  const shown = children.slice(0, MOST);
  const titles = shown.map(({ title }) => title);
  const spots = placed(titles, edges);
  const spot = new Map(titles.map((title, at) => [title, spots[at]]));
  const width = Math.max(...spots.map(({ x }) => x)) + BOX.width + 2;
  const height = Math.max(...spots.map(({ y }) => y)) + BOX.height + (children.length > MOST ? 24 : 2);
  const arrows = edges
    .filter(([from, to]) => spot.has(from) && spot.has(to))
    .map(([from, to]) => {
      const [a, b] = [spot.get(from)!, spot.get(to)!];
      const [x1, y1, x2, y2] = [a.x + BOX.width, a.y + BOX.height / 2, b.x, b.y + BOX.height / 2];
      return s("path", { class: "aml-edge", d: `M${x1},${y1}C${x1 + 20},${y1} ${x2 - 20},${y2} ${x2},${y2}` });
    });
  const boxes = shown.map(({ title, status, name, detail }, at) =>
    s(
      "g",
      { role: "listitem", "aria-label": [`${title}: ${status}`, detail].filter(Boolean).join(", "), transform: `translate(${spots[at].x + 1},${spots[at].y + 1})`, class: `aml-${status.toLowerCase()}` },
      s("title", {}, [title, name, status, detail].filter(Boolean).join("\n")),
      s("rect", { width: BOX.width, height: BOX.height, rx: 4 }),
      s("text", { x: 8, y: 14 }, short(title, 20)),
      s("text", { x: 8, y: 28, class: "aml-small" }, short([status, detail].filter(Boolean).join(" · "), 26)),
    ),
  );
  const more = children.length > MOST ? s("text", { x: 2, y: height - 6 }, `and ${children.length - MOST} more`) : null;
  return s("svg", { class: "aml-graph", role: "list", "aria-label": `${children.length} child jobs`, width, height, viewBox: `0 0 ${width} ${height}` }, ...arrows, ...boxes, more);
}
