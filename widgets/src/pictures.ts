// Pictures to keep of what is on screen: PNG files.
import { h, theme } from "./dom";

export interface Entry {
  name: string;
  color: string;
  dash: number[];
}

const FONT = 13; // pixels, as the views
const COLUMN = 220; // width of a legend's entry
const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-size", "font-family", "visibility"];

/** A chart on paper of the theme's colour, its title above and its legend below. */
export function pictured(source: HTMLCanvasElement | HTMLImageElement, styled: Element, title: string, legend: Entry[] = [], more = ""): Promise<Blob | null> {
  const ratio = devicePixelRatio;
  const { ink, paper } = theme(styled);
  const [wide, high] = [source.width, source.height];
  const line = 1.6 * FONT * ratio;
  const columns = Math.max(Math.floor(wide / (COLUMN * ratio)), 1);
  const rows = Math.ceil((legend.length + Number(Boolean(more))) / columns);
  const canvas = h("canvas", { width: wide, height: high + line * (rows + 2) });
  const pen = canvas.getContext("2d")!;
  pen.fillStyle = paper || "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(source, 0, 1.5 * line, wide, high);
  pen.fillStyle = ink;
  pen.textBaseline = "middle";
  pen.font = `600 ${FONT * ratio}px system-ui, sans-serif`;
  pen.fillText(title, FONT * ratio, 0.75 * line);
  pen.font = `${FONT * ratio}px system-ui, sans-serif`;
  const place = (at: number): [number, number] => [(at % columns) * COLUMN * ratio + FONT * ratio, high + line * (2 + Math.floor(at / columns))];
  legend.forEach((entry, at) => drawEntry(pen, entry, place(at), ratio));
  if (more) pen.fillText(more, ...place(legend.length));
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function drawEntry(pen: CanvasRenderingContext2D, { name, color, dash }: Entry, [x, y]: [number, number], ratio: number): void {
  pen.save();
  pen.strokeStyle = color;
  pen.lineWidth = 2 * ratio;
  pen.setLineDash(dash.map((one) => one * ratio));
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x + 26 * ratio, y);
  pen.stroke();
  pen.restore();
  pen.fillText(name.length > 24 ? `${name.slice(0, 23)}…` : name, x + 34 * ratio, y);
}

/** A figure of SVG as a picture: its styles are the page's, so each element is given its own. */
export async function svgPicture(figure: SVGSVGElement, title: string): Promise<Blob | null> {
  const { width, height } = figure.getBoundingClientRect();
  const copy = figure.cloneNode(true) as SVGSVGElement;
  const ratio = devicePixelRatio;
  copy.setAttribute("width", String(width * ratio));
  copy.setAttribute("height", String(height * ratio));
  const from = [figure, ...figure.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll<SVGElement>("*")].forEach((element, at) => {
    const style = getComputedStyle(from[at]!);
    for (const name of STYLES) (element as SVGElement).style.setProperty(name, style.getPropertyValue(name));
  });
  const image = new Image(width * ratio, height * ratio);
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await image.decode();
  return pictured(image, figure, title);
}
