// The ids of all results of a query, not only of those loaded. Loaded when something is done to all of
// them, or when a date far away is shown.
import { ask, loadStyles, t, toast } from "./dom.js";
import "./strings.actions.js";

let cached = { q: null };

/** {ids, results, strong, months} of a query, from GET /api/order. */
export function orderOf(q) {
  if (cached.q !== q) {
    const found = ask(`api/order?q=${encodeURIComponent(q)}`);
    cached = { q, found };
    found.catch(() => cached.found === found && (cached = { q: null }));
  }
  return cached.found;
}

/** Forgets what is cached: the library or a collection has changed. */
export const forgetOrder = () => (cached = { q: null });

/** Selects of all results: `selected` is the map of the selection, `changed` follows every change. */
export function createAll({ selected, changed, query }) {
  function add(ids, known = []) {
    const hits = new Map(known.map((hit) => [hit.id, hit]));
    for (const id of ids) selected.set(id, selected.get(id) ?? hits.get(id) ?? true);
    return changed();
  }
  return {
    /** Selects all results; first only the strong matches, if there are any. `hits` are all that there are. */
    async select(hits, { strong = true } = {}) {
      if (hits) return add(hits.map(({ id }) => id), hits);
      const { ids, strong: count } = await orderOf(query());
      const first = count ? ids.slice(0, count) : ids;
      return add(strong && first.some((id) => !selected.has(id)) ? first : ids);
    },
    /** Selects `hits` beside those of `before`. */
    drag(before, hits) {
      selected.clear();
      for (const [id, hit] of [...before, ...hits.map((hit) => [hit.id, hit])]) selected.set(id, hit);
      return changed();
    },
    async favourite(ids, favourites) {
      if (!favourites) return toast(t("actions.no_favourites"));
      await loadStyles("more.css");
      await (await favourites()).toggle(ids);
    },
    /** Selects the results from one to another, in the order of the query. */
    async range(from, to) {
      const { ids } = await orderOf(query());
      const [first, last] = [ids.indexOf(from), ids.indexOf(to)].sort((a, b) => a - b);
      if (first >= 0) await add(ids.slice(first, last + 1));
    },
  };
}
