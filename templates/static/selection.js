// What a person has picked out: chosen pictures (to copy, download or search with), and marks "more
// like this" and "less like this" that wait to refine the search. The tray that shows them is loaded
// with the first.
import { sheet } from "./dom.js";

export function createSelection({ onChange, onQuery, query }) {
  const chosen = new Map(), marks = new Map();
  let tray = null;

  async function changed() {
    onChange();
    if (!tray && !chosen.size && !marks.size) return;
    tray ??= Promise.all([import("./tray.js"), sheet("more.css")])
      .then(([{ createTray }]) => createTray({ chosen, marks, changed, onQuery, query }));
    (await tray).draw();
  }

  return {
    refine: async () => (await tray)?.refine(),
    has: (id) => chosen.has(id),
    mark: (id) => marks.get(id),
    get size() { return chosen.size; },
    choose(hits, on = hits.some((hit) => !chosen.has(hit.id))) {
      for (const hit of hits) on ? chosen.set(hit.id, hit) : chosen.delete(hit.id);
      changed();
    },
    setMark(id, sign) {
      marks.get(id) === sign ? marks.delete(id) : marks.set(id, sign);
      changed();
    },
    /** Lets go of the chosen, or of the marks. */
    clear() {
      if (!chosen.size && !marks.size) return;
      (chosen.size ? chosen : marks).clear();
      changed();
    },
    forgetMarks: () => marks.size && (marks.clear(), changed()),
  };
}
