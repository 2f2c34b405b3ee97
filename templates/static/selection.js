// Selected images (to copy, download or search with), and feedback ("more like this", "less like
// this") that waits to refine the search. The tray that shows both is loaded when it is needed.
import { load, loadStyles, once } from "./dom.js";

export function createSelection({ onChange, onQuery, query }) {
  const selected = new Map(), feedback = new Map(); // id -> hit; id -> 1 or -1
  let drawn = false;
  const tray = once(async () => {
    const [{ createTray }] = await Promise.all([load("tray.js", "tools.js", "terms.js", "icons.js"), loadStyles("more.css")]);
    drawn = true;
    return createTray({ selected, feedback, changed, onQuery, query });
  });

  async function changed() {
    onChange();
    if (drawn || selected.size || feedback.size) (await tray()).draw();
  }

  return {
    refine: async () => drawn && (await tray()).refine(),
    has: (id) => selected.has(id),
    feedback: (id) => feedback.get(id),
    get size() { return selected.size; },
    select(hits, on = hits.some((hit) => !selected.has(hit.id))) {
      for (const hit of hits) on ? selected.set(hit.id, hit) : selected.delete(hit.id);
      changed();
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
