// Selected images (to keep, copy, download or search with), favourites, and feedback ("more like this",
// "less like this") that waits to refine the search. The tray that shows them is loaded when needed.
import { $, load, loadStyles, once } from "./dom.js";

export function createSelection({ onChange, onQuery, onRemoved, query }) {
  const selected = new Map(), feedback = new Map(); // id -> hit, or true for one that is not loaded; id -> 1 or -1
  const keeps = "keeps" in $("main").dataset; // not a library in Milvus
  let drawn = false, favourites = null;
  const tray = once(async () => {
    const [{ createTray }] = await Promise.all([load("tray.js", "tools.js", "terms.js", "icons.js", "strings.actions.js", "strings.tray.js"), loadStyles("more.css")]);
    drawn = true;
    return createTray({ selected, feedback, changed, onQuery, query, favourite, keeps, onRemoved, selectAll });
  });
  const loadFavourites = once(() => load("kept.js", "icons.js", "strings.kept.js").then(({ createFavourites }) => createFavourites({ onChange }))
    .then((found) => ((favourites = found), onChange(), found)));
  if ("favourites" in $("main").dataset) loadFavourites().catch(() => null);

  async function changed() {
    onChange();
    if (drawn || selected.size || feedback.size) (await tray()).draw();
  }

  const favourite = async (ids) => (await all()).favourite(ids, keeps && loadFavourites);

  /** All results, and ranges of them, not only those loaded. */
  const all = once(() => load("order.js").then(({ createAll }) => createAll({ selected, changed, query })));
  const selectAll = async (...how) => (await all()).select(...how);

  return {
    selectAll, favourite,
    refine: async () => drawn && (await tray()).refine(),
    has: (id) => selected.has(id),
    feedback: (id) => feedback.get(id),
    isFavourite: (id) => !!favourites?.has(id),
    get size() { return selected.size; },
    select(hits, on = hits.some((hit) => !selected.has(hit.id))) {
      for (const hit of hits) on ? selected.set(hit.id, hit) : selected.delete(hit.id);
      changed();
    },
    range: async (from, to) => (await all()).range(from, to),
    /** A function that selects its hits beside what is selected now, for every step of a drag. */
    drag(before = new Map(selected)) {
      return async (hits) => (await all()).drag(before, hits);
    },
    /** Sets feedback, or removes it if it is already set to `sign`. */
    setFeedback(id, sign) {
      feedback.get(id) === sign ? feedback.delete(id) : feedback.set(id, sign);
      changed();
    },
    /** Clears the selection; without one, the feedback. */
    clear() {
      if (!selected.size && !feedback.size) return;
      (selected.size ? selected : feedback).clear();
      changed();
    },
    clearFeedback: () => feedback.size && (feedback.clear(), changed()),
  };
}
