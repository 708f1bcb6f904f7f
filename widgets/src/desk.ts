// What forms ask the kernel for, and what comes back: progress, then an answer or an error.
export class Refusal extends Error {
  constructor(
    text: string,
    readonly hint = "",
    readonly detail: string[] = [],
  ) {
    super(text);
  }
}

interface Waiting {
  told: (text: string) => void;
  done: (answer: any) => void; // eslint-disable-line
  failed: (why: Refusal) => void;
}

export class Desk {
  private readonly waiting = new Map<string, Waiting>();
  private readonly own = Math.random().toString(36).slice(2); // all views of a widget hear all answers
  private last = 0;

  /** Args: send: gives a wish to the kernel; false where there is none. */
  constructor(private readonly send: (wish: unknown) => boolean) {}

  /** The facts of a form. */
  facts(form: string, asked: Record<string, string>): Promise<any> {
    return this.ask({ want: "facts", form, asked });
  }

  /** Run a magic line; what it tells meanwhile goes to `told`. */
  run(line: string, told: (text: string) => void = () => undefined): Promise<{ text: string; data: any }> {
    return this.ask({ want: "run", line }, told);
  }

  /** Whether a message was one for a form. */
  hear(message: any): boolean {
    if (message?.kind !== "form") return false;
    const one = this.waiting.get(message.id);
    if (one && "told" in message) one.told(message.told);
    if (one && "done" in message) one.done(message.done);
    if (one && "error" in message) one.failed(new Refusal(message.error, message.hint, message.detail));
    if (!("told" in message)) this.waiting.delete(message.id);
    return true;
  }

  private ask(wish: Record<string, unknown>, told: (text: string) => void = () => undefined): Promise<any> {
    const id = `${this.own}-${++this.last}`;
    return new Promise((done, failed) => {
      this.waiting.set(id, { told, done, failed });
      if (this.send({ ...wish, id })) return;
      this.waiting.delete(id);
      failed(new Refusal("no kernel answers", "run the cell again"));
    });
  }
}
