// Draws a view by the code that another widget of the notebook has, once for all views.
import type { Context } from "./model";

type Module = { default: { render(context: Context): () => void } };
const REFERENCE = "IPY_MODEL_";
// By the code itself, on the page: the views of a notebook do not share this module.
const loaded: Map<string, Promise<Module>> = ((globalThis as any).amlViews ??= new Map());

function load(source: string): Promise<Module> {
  if (!loaded.has(source)) {
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    loaded.set(source, import(url).finally(() => URL.revokeObjectURL(url)));
  }
  return loaded.get(source)!;
}

/** Add the stylesheet of a view to the page, once for all views. */
function dress(text: string): void {
  const known = [...document.head.querySelectorAll("style.aml-views")];
  if (known.some(({ textContent }) => textContent === text)) return;
  document.head.append(Object.assign(document.createElement("style"), { className: "aml-views", textContent: text }));
}

export default {
  async render(context: Context): Promise<() => void> {
    const { model } = context;
    const code = await model.widget_manager!.get_model(String(model.get("code")).slice(REFERENCE.length));
    dress(code.get("style"));
    return (await load(code.get("source"))).default.render(context);
  },
};
