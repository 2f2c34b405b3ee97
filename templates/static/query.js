// The query is one string and the whole state of the page: `-people like:5 after:2023`. These
// functions edit it; the server parses it (GET /api/parse).

const IMAGE_TERM = /^(-?)(?:(\d*\.?\d+):)?(like|upload):(.+)$/;

/** Parts separated by spaces; quotes keep spaces together, also after a name: in:"My trip". Phones write
 * typographic quotes. */
export const tokens = (q) => q.replace(/[“”„‟＂«»]/g, '"').match(/(?:[^\s"]+|"[^"]*"?)+/g) ?? [];

const KEYWORDS = /^(portrait|landscape|square|favourite|newest|oldest|relevance|all|sum)$/i;

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

const filterNames = new Set(document.getElementById("q").dataset.filters.split(" "));

/** "-in:x" -> {name, value, negated}, also for the settings match: and sort:; null for any other token. */
export function filterOf(token) {
  const [, minus, name, value] = token.match(/^(-?)([a-z]+):(.*)$/is) ?? [];
  const found = name && { name: name.toLowerCase(), value: value.replaceAll('"', ""), negated: !!minus };
  return found && (filterNames.has(found.name) || (!minus && isSetting(found))) ? found : null;
}

/** Settings have their own controls and no chip. */
export const isSetting = ({ name }) => name === "match" || name === "sort";

/** A query as image terms, filters, and the text of the search box. */
export function split(q) {
  const images = [], filters = [], words = [];
  for (const token of tokens(q)) (imageTerm(token) ? images : filterOf(token) ? filters : words).push(token);
  return { images, filters, text: images.length || filters.length ? words.join(" ") : q };
}

export const join = (images, text, filters = []) => [...images, text, ...filters].filter(Boolean).join(" ");

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
