// Labels, people, countries, cities and keywords of the results with their counts; a click filters.
import { $, ask, h, number } from "./dom.js";
import { change, tokens } from "./query.js";

const MAX_FACETS = 24;

export function createFacets({ onQuery }) {
  const bar = $("facets");
  let request;

  /** Shows the facets of a query. null empties the bar but keeps its space, so that nothing moves. */
  async function show(q) {
    request?.abort();
    if (q === null) return bar.replaceChildren();
    request = new AbortController();
    const found = await ask(`api/facets?q=${encodeURIComponent(q)}`, { signal: request.signal }).catch(() => null);
    if (!found) return;
    const active = new Set(tokens(q));
    const facets = [...found.label, ...found.person, ...found.country, ...found.place, ...found.keyword].filter(({ filter }) => filter).slice(0, MAX_FACETS)
      .sort((a, b) => active.has(b.filter) - active.has(a.filter));
    bar.replaceChildren(...facets.map(({ value, filter, count }) => h("button", {
      type: "button", class: "pill", "aria-pressed": String(active.has(filter)), title: filter,
      onclick: () => onQuery(active.has(filter) ? change(q, (token) => token === filter) : change(q, () => false, filter)),
    }, value, h("small", {}, ` ${number(count)}`))));
    if (facets.length) bar.hidden = false;
  }

  return { show };
}
