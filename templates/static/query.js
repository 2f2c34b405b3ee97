// The query is one string and the whole state of the page: `-people like:5 after:2023`. These
// functions edit it; the server parses it (GET /api/parse).

const IMAGE_TERM = /^(-?)(?:(\d*\.?\d+):)?(like|upload):(.+)$/;

/** Parts separated by spaces; quotes keep spaces together, also after a name: in:"My trip". */
export const tokens = (q) => q.match(/(?:[^\s"]+|"[^"]*"?)+/g) ?? [];

const KEYWORDS = /^(portrait|landscape|square|newest|oldest|relevance|all|sum)$/i;

/** Whether the last token is a filter that is still being typed, which the server would reject. */
export function incomplete(q) {
  const [, name, value] = (tokens(q).at(-1) ?? "").match(/^-?([a-z]+):(.*)$/i) ?? [];
  if (!name || /\s$/.test(q)) return false;
  if (/^(after|before|date)$/i.test(name)) return !/(^|\.\.)\d{4}(-\d\d?){0,2}$/.test(value);
  if (/^(is|sort|match)$/i.test(name)) return !KEYWORDS.test(value);
  return !value.replaceAll('"', "") || (/^near$/i.test(name) && !/\d,-?\d/.test(value));
}

/** "-2:like:5@0,0,1,1" -> {kind, ref, weight}; null for any other token. */
export function imageTerm(token) {
  const [, minus, weight, kind, ref] = token.match(IMAGE_TERM) ?? [];
  return kind ? { kind, ref, weight: (minus ? -1 : 1) * (weight ? Number(weight) : 1) } : null;
}

/** The image terms of a query, and the rest as the text of the search box. */
export function split(q) {
  const images = tokens(q).filter(imageTerm);
  if (!images.length) return { images, text: q };
  return { images, text: tokens(q).filter((token) => !imageTerm(token)).join(" ") };
}

export const join = (images, text) => [...images, text].filter(Boolean).join(" ");

/** Without the tokens for which `remove` returns true, with `added` at the end. */
export const change = (q, remove, ...added) =>
  [...tokens(q).filter((token) => !remove(token)), ...added].join(" ");

export const setting = (q, name, value) =>
  change(q, (token) => token.startsWith(`${name}:`), ...(value ? [`${name}:${value}`] : []));

export function dateRange(q) {
  const [after, before] = ["after", "before"].map((name) =>
    tokens(q).find((token) => token.startsWith(`${name}:`))?.slice(name.length + 1));
  return { after, before };
}

export const withDateRange = (q, after, before) =>
  change(q, (token) => /^(after|before|date):/.test(token), ...(after ? [`after:${after}`, `before:${before}`] : []));
