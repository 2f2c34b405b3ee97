// Labels and keywords of what was found, with their numbers of pictures; a press filters.
import { $, ask, h, number } from "./dom.js";
import { change, tokens } from "./query.js";

const MOST = 24;

export function createFacets({ onQuery }) {
  const place = $("facets");
  let asking;

  /** Those of a query; null: none, and their place stays, so that no picture moves. */
  async function show(q) {
    asking?.abort();
    if (q === null) return place.replaceChildren();
    asking = new AbortController();
    const found = await ask(`/api/facets?q=${encodeURIComponent(q)}`, { signal: asking.signal }).catch(() => null);
    if (!found) return;
    const given = new Set(tokens(q));
    const facets = [...found.label, ...found.keyword].filter(({ filter }) => filter).slice(0, MOST)
      .sort((a, b) => given.has(b.filter) - given.has(a.filter));
    place.replaceChildren(...facets.map(({ value, filter, count }) => h("button", {
      type: "button", class: "pill", "aria-pressed": String(given.has(filter)), title: filter,
      onclick: () => onQuery(given.has(filter) ? change(q, (token) => token === filter) : change(q, () => false, filter)),
    }, value, h("small", {}, ` ${number(count)}`))));
    if (facets.length) place.hidden = false;
  }

  return { show };
}
