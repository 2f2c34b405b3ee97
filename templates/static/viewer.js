// What the lightbox has to do with the page: the address holds its picture, closing it comes back to
// the tile, and turning pages fetches further results. Loaded when a picture is first pointed at.
import { number } from "./dom.js";
import { createLightbox } from "./lightbox.js";

export function createViewer({ grid, selection, result, go, more, href, id }) {
  let leaving = false;
  const near = (i) => grid.items.length - i < 20 && more();

  const lightbox = createLightbox({
    grid: { item: grid.item, indexOf: grid.indexOf, place: (i) => `${number(i + 1)} of ${number(result().total)}` },
    isChosen: (one) => selection.has(one),
    onChoose: (hit) => selection.choose([hit]),
    onMove(hit, i) {
      history.replaceState(history.state, "", href(hit.id));
      near(i);
    },
    onQuery(q) {
      leaving = true;
      lightbox.close();
      go(q);
    },
    onClosed(hit, i) {
      const left = leaving;
      leaving = false;
      if (left) return;
      if (id()) {
        if (history.state?.opened) history.back();
        else history.replaceState({}, "", href());
      }
      if (i >= 0) grid.focus(i);
    },
  });

  return {
    open(hit, i, { push }) {
      if (push) history.pushState({ opened: true }, "", href(hit.id));
      lightbox.open(hit, i);
      near(i);
    },
    close: () => lightbox.close(),
    get shown() { return lightbox.shown; },
  };
}
