// What of anywidget's model the views use.
export interface Model {
  get(name: string): any; // eslint-disable-line
  set(name: string, value: unknown): void;
  save_changes(): void;
  on(event: string, call: (...args: any[]) => void): void; // eslint-disable-line
  off(event: string, call?: (...args: any[]) => void): void; // eslint-disable-line
  send(content: unknown): void;
  widget_manager?: { get_model(id: string): Promise<Model> };
}

export interface Context {
  model: Model;
  el: HTMLElement;
}

/** Listen until the view is removed; returns how to stop all of it. */
export function listening(model: Model): { on: Model["on"]; stop: () => void } {
  const heard: [string, (...args: unknown[]) => void][] = [];
  return {
    on: (event, call) => {
      model.on(event, call);
      heard.push([event, call]);
    },
    stop: () => heard.forEach(([event, call]) => model.off(event, call)),
  };
}

/** Be told when the kernel has ended, or its view was restored without one. */
export function onEnd(listen: { on: Model["on"] }, model: Model, ended: () => void): void {
  listen.on("comm_live_update", () => {
    if (!ask(model, { want: "alive" })) ended();
  });
}

/** Ask the kernel for something; false where the view was restored without one. */
export function ask(model: Model, wish: unknown): boolean {
  try {
    model.send(wish);
    return true;
  } catch {
    return false;
  }
}
