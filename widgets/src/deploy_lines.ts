// The lines that forms give, and what is wrong with what was typed into them.
import { quoted } from "./lines";

export interface Registration {
  run: string;
  folders: number; // that the run has: named in the line when there is a choice
  folder: string;
  name: string;
  alias: string;
  tags: string; // a=b c=d
  unsigned: boolean; // the model has no signature, and that is wanted
}

export interface Deployment {
  model: string;
  endpoint: string;
  deployment: string;
  type: string;
  count: number;
  share: number | null; // percent; null: what the command does by itself
  variables: string;
}

export type Shares = Record<string, number>;

/** `a=1 b=2`, and as people also write it, `a=1, b=2`. */
const words = (text: string): string[] => text.split(/,\s+|\s+|,(?=[\w.-]+=)/).filter(Boolean);
const flag = (name: string, value: string): string[] => (value ? [name, quoted(value)] : []);
const pairs = (name: string, text: string): string[] => (words(text).length ? [name, ...words(text).map(quoted)] : []);

export function registerLine(one: Registration): string {
  const artifact = one.folders > 1 ? flag("--artifact", one.folder) : [];
  const flags = [...artifact, ...flag("--name", one.name), ...pairs("--tags", one.tags), ...flag("--alias", one.alias)];
  return ["%aml register", quoted(one.run), ...flags, ...(one.unsigned ? ["--allow-no-signature"] : [])].join(" ");
}

export function deployLine(one: Deployment): string {
  const flags = [
    ...flag("--endpoint", one.endpoint),
    ...flag("--deployment", one.deployment),
    ...(one.share === null ? [] : ["--traffic", String(one.share)]),
    ...flag("--instance-type", one.type),
    ...(one.count > 1 ? ["--instance-count", String(one.count)] : []),
    ...pairs("--env-var", one.variables),
  ];
  return ["%aml deploy", quoted(one.model), ...flags].join(" ");
}

export function trafficLine(endpoint: string, shares: Shares): string {
  return ["%aml traffic", quoted(endpoint), ...Object.entries(shares).map(([name, share]) => `${name}=${share}`)].join(" ");
}

/** A quote in the request is written as JSON escapes it: the magic's splitter knows no escapes. */
export function invokeLine(endpoint: string, request: unknown, deployment = ""): string {
  const json = JSON.stringify(request).replaceAll("'", "\\u0027");
  return ["%aml invoke", quoted(endpoint), `'${json}'`, ...flag("--deployment", deployment)].join(" ");
}

/** The shares when one deployment gets so much and the others keep their proportions. */
export function withShare(shares: Shares, deployment: string, percent: number): Shares {
  const others = Object.entries(shares).filter(([name, share]) => share && name !== deployment);
  const total = others.reduce((sum, [, share]) => sum + share, 0);
  const left = 100 - percent;
  const divided: Shares = Object.fromEntries(others.map(([name, share]) => [name, Math.floor((left * share) / total)]));
  const given = Object.values(divided).reduce((sum, share) => sum + share, 0);
  const largest = others.reduce<[string, number] | null>((best, one) => (best && best[1] >= one[1] ? best : one), null);
  if (largest) divided[largest[0]] = divided[largest[0]]! + left - given;
  return { ...divided, [deployment]: percent };
}

export const sum = (shares: Shares): number => Object.values(shares).reduce((all, share) => all + share, 0);

// What is wrong with a text, or nothing.
export const RULES = {
  model: (text: string) => (/^[A-Za-z0-9][\w.-]{0,254}$/.test(text) ? "" : "letters, digits, - _ and . only, a letter or digit first"),
  alias: (text: string) => (!text || (/^[\w-]{1,255}$/.test(text) && !/^(latest|v\d+)$/i.test(text)) ? "" : "letters, digits, - and _; not latest, not v1"),
  endpoint: (text: string) => (/^[A-Za-z](-?[A-Za-z0-9])+$/.test(text) && text.length >= 3 && text.length <= 32 ? "" : "3 to 32 letters, digits and single hyphens, a letter first"),
  deployment: (text: string) => (/^[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]$/.test(text) ? "" : "3 to 32 letters, digits and hyphens, a letter first, no hyphen last"),
  pairs: (text: string) => (words(text).every((word) => /^[^=]+=/.test(word)) ? "" : "name=value, with spaces between"),
};
