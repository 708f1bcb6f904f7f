// Blocks of numbers as the Python side packs them.

export interface Column {
  key: string;
  label: string;
  kind: "fact" | "metric" | "param";
  type: "number" | "text";
  goal?: "min" | "max";
  texts?: string[];
  nans?: number[]; // places of runs that have logged NaN, which others lack
}

export interface Series {
  run: string;
  metric: string;
  count: number;
  start: number; // seconds since the epoch
}

export interface Curve extends Series {
  step: Float64Array;
  seconds: Float32Array; // since start
  value: Float64Array;
}

export interface Run {
  id: string;
  index: number;
  place: number; // of its colour: the index, or its group's place
  name: string;
  cells: Record<string, number | string>;
  nans: Set<string>; // keys of what was logged as no number
}

export const POINT_BYTES = 20; // step and value float64, seconds float32

/** The bytes of a view in a buffer of their own: typed arrays need them aligned. */
export function bytes(view: DataView | ArrayBuffer | Uint8Array | null | undefined): ArrayBuffer {
  if (!view) return new ArrayBuffer(0);
  if (view instanceof ArrayBuffer) return view;
  const { buffer, byteOffset, byteLength } = view;
  return buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer;
}

/** Runs with their cells by column key; a missing number is NaN, a missing text is empty. */
export function runsOf(table: { runs: string[]; columns: Column[] }, block: ArrayBuffer): Run[] {
  const numbers = new Float64Array(block);
  const count = table.runs.length;
  const offsets = new Map<string, number>();
  for (const column of table.columns)
    if (column.type === "number") offsets.set(column.key, offsets.size * count);
  return table.runs.map((id, index) => {
    const cells: Run["cells"] = {};
    for (const column of table.columns)
      cells[column.key] =
        column.type === "number"
          ? numbers[offsets.get(column.key)! + index]
          : (column.texts?.[index] ?? "");
    const nans = new Set(table.columns.filter(({ nans: places }) => places?.includes(index)).map(({ key }) => key));
    return { id, index, place: index, name: String(cells["display_name"] || id), cells, nans };
  });
}

/** Curves of a block: all steps, then all values, then all seconds. */
export function curvesOf(series: Series[], block: ArrayBuffer): Curve[] {
  const total = series.reduce((sum, one) => sum + one.count, 0);
  const steps = new Float64Array(block, 0, total);
  const values = new Float64Array(block, 8 * total, total);
  const seconds = new Float32Array(block, 16 * total, total);
  let at = 0;
  return series.map((one) => {
    const range: [number, number] = [at, (at += one.count)];
    return {
      ...one,
      step: steps.subarray(...range),
      seconds: seconds.subarray(...range),
      value: values.subarray(...range),
    };
  });
}
