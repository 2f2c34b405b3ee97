// Connects the lightbox with the page: the address holds the open image, closing returns the focus to
// its tile, and stepping through fetches further results. Loaded with the lightbox.
import { t } from "./dom.js";
import { createLightbox } from "./lightbox.js";

/** Results left after the open one at which the next page is fetched. */
const PREFETCH = 20;

export function createViewer({ grid, selection, result, go, find, more, hrefOf, openId, keeps }) {
  let searching = false;
  /** Photos of a stack count as one, which is known once all are loaded. */
  const total = () => (result().received < result().total ? result().total : grid.base + grid.items.length);
  const prefetch = (i) => grid.items.length - i < PREFETCH && more();

  /** Searches, and goes to a photo in the results. */
  async function goTo(q, id) {
    go(q);
    while (document.body.classList.contains("searching")) await new Promise((done) => setTimeout(done, 30));
    if (result().q === q && await find(id)) grid.focus(grid.indexOf(id));
  }

  const lightbox = createLightbox({
    grid: { item: grid.item, indexOf: grid.indexOf, position: (i) => t("photo.position", { number: grid.base + i + 1, total: total() }) },
    isSelected: (id) => selection.has(id),
    keeps: keeps && selection,
    onFind(q, id) {
      searching = true;
      lightbox.close();
      goTo(q, id);
    },
    onSelect: (hit) => selection.select([hit]),
    onMove(hit, i) {
      history.replaceState(history.state, "", hrefOf(hit.id));
      prefetch(i);
    },
    onQuery(q) {
      searching = true;
      lightbox.close();
      go(q);
    },
    onClosed(hit, i) {
      const leaves = searching;
      searching = false;
      if (leaves) return;
      if (openId()) {
        if (history.state?.opened) history.back();
        else history.replaceState({}, "", hrefOf());
      }
      if (i >= 0) grid.focus(i);
    },
  });

  return {
    open(hit, i, { push }) {
      if (push) history.pushState({ opened: true }, "", hrefOf(hit.id));
      lightbox.open(hit, i);
      prefetch(i);
    },
    close: () => lightbox.close(),
    /** Sets the rank of the open image, once it is loaded. */
    place: (i) => (lightbox.place(i), prefetch(i)),
    get shown() { return lightbox.shown; },
  };
}
