// Labels and keywords of what was found, with their numbers of pictures; a press filters.
import { $, ask, h, number } from "./dom.js";
import { change, tokens } from "./query.js";

const MOST = 24;

export function createFacets({ onQuery }) {
  const place = $("facets");
  let asking;

  async function show(q) {
    asking?.abort();
    asking = new AbortController();
    const found = await ask(`/api/facets?q=${encodeURIComponent(q)}`, { signal: asking.signal }).catch(() => null);
    if (!found) return;
    const given = new Set(tokens(q));
    const facets = [...found.label, ...found.keyword].filter(({ filter }) => filter).slice(0, MOST);
    place.replaceChildren(...facets.map(({ value, filter, count }) => h("button", {
      type: "button", class: "pill", "aria-pressed": String(given.has(filter)), title: filter,
      onclick: () => onQuery(given.has(filter) ? change(q, (token) => token === filter) : change(q, () => false, filter)),
    }, value, h("small", {}, ` ${number(count)}`))));
    place.hidden = !facets.length;
  }

  function hide() {
    place.hidden = true;
  }

  return { show, hide };
}
