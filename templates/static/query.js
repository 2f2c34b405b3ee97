// The query is one string, and it is the whole state of the page: `-people like:5 after:2023`.
// These functions change it; understanding it is the server's business (GET /api/parse).

const PICTURE = /^(-?)(?:(\d*\.?\d+):)?(like|upload):(.+)$/;

/** Blank-separated parts; quotes hold blanks together, also after a name: in:"My trip". */
export const tokens = (q) => q.match(/(?:[^\s"]+|"[^"]*"?)+/g) ?? [];

const WORDS = /^(portrait|landscape|square|newest|oldest|relevance|all|sum)$/i;

/** Whether the last word is a filter that is still being written: the server would refuse it. */
export function unfinished(q) {
  const [, name, value] = (tokens(q).at(-1) ?? "").match(/^-?([a-z]+):(.*)$/i) ?? [];
  if (!name || /\s$/.test(q)) return false;
  if (/^(after|before)$/i.test(name)) return !/^\d{4}(-\d\d?){0,2}$/.test(value);
  if (/^(is|sort|match)$/i.test(name)) return !WORDS.test(value);
  return !value.replaceAll('"', "") || (/^near$/i.test(name) && !/\d,-?\d/.test(value));
}

/** "-2:like:5@0,0,1,1" -> {kind, ref, weight}; null for anything else. */
export function picture(token) {
  const [, minus, weight, kind, ref] = token.match(PICTURE) ?? [];
  return kind ? { kind, ref, weight: (minus ? -1 : 1) * (weight ? Number(weight) : 1) } : null;
}

/** The pictures of a query are shown as chips, the rest stays in the box as it was typed. */
export function split(q) {
  const pictures = tokens(q).filter(picture);
  if (!pictures.length) return { pictures, text: q };
  return { pictures, text: tokens(q).filter((token) => !picture(token)).join(" ") };
}

export const join = (pictures, text) => [...pictures, text].filter(Boolean).join(" ");

/** Without the tokens for which `unwanted` holds, with `added` at the end. */
export const change = (q, unwanted, ...added) =>
  [...tokens(q).filter((token) => !unwanted(token)), ...added].join(" ");

export const setting = (q, name, value) =>
  change(q, (token) => token.startsWith(`${name}:`), ...(value ? [`${name}:${value}`] : []));

const MONTH = /^(after|before):/;

export function month(q) {
  const [after, before] = ["after", "before"].map((name) =>
    tokens(q).find((token) => token.startsWith(`${name}:`))?.slice(name.length + 1));
  return { after, before };
}

export const withMonths = (q, after, before) =>
  change(q, (token) => MONTH.test(token), ...(after ? [`after:${after}`, `before:${before}`] : []));
