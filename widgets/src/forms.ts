// A form in a cell of its own: that of an endpoint, of a run to register, or of a model to deploy.
import { deploy, endpoint, register } from "./deploy_forms";
import { Desk } from "./desk";
import { h, hideStatic, ownKeys } from "./dom";
import { ask, listening, onEnd, type Context } from "./model";

export default {
  render({ model, el }: Context): () => void {
    const desk = new Desk((wish) => ask(model, wish));
    const listen = listening(model);
    const undo: (() => void)[] = [];
    el.classList.add("aml-widget");
    listen.on("msg:custom", (content: any) => {
      if (desk.hear(content) || content.kind !== "alive" || el.dataset["alive"] === "") return;
      el.dataset["alive"] = "";
      undo.push(hideStatic(el));
      const facts = model.get("facts");
      const made = { endpoint: () => endpoint(desk, facts, (act) => undo.push(act)), register: () => register(desk, facts.run), deploy: () => deploy(desk, facts.model) };
      el.append(made[model.get("form") as keyof typeof made]());
    });
    onEnd(listen, model, () => {
      delete el.dataset["alive"];
      el.prepend(h("p", { role: "status", class: "aml-note" }, "the kernel has ended: run the cell again"));
    });
    undo.push(ownKeys(el));
    ask(model, { want: "alive" });
    return () => {
      listen.stop();
      undo.forEach((act) => act());
    };
  },
};
