// Shows results that are far from those loaded: at a date, at either end, around one photo. Loaded with
// the first such jump, or when results by date are scrolled.
import { ask, load, once, toast } from "./dom.js";
import { orderOf } from "./order.js";

/** Results shown before a photo that is searched for among them. */
const CONTEXT = 40;

/** `main` is the page: its grid, its result, and `show(hits, from, received)`. */
export function createJumps(main) {
  const { grid, page, complete, pageSize } = main;
  let loading = null;
  const scrubber = once(async () => (await load("scrubber.js")).createScrubber({ jump, position: grid.position }));

  /** Loads the page of results before those shown, after a jump. */
  const before = () => (main.result.base && main.result.random === null ? (loading ??= prepend(main.result).finally(() => (loading = null))) : null);

  async function prepend(now) {
    const from = Math.max(0, now.base - pageSize);
    try {
      const { hits } = await page(now.q, from, { k: now.base - from });
      if (now !== main.result) return;
      now.base = from;
      now.known ??= new Set(now.hits.map(({ id }) => id));
      await grid.prepend(hits.filter(({ id }) => !now.known.has(id) && now.known.add(id)), from);
    } catch (error) {
      toast(error.message);
    }
  }

  /** Shows the results from `offset` on. */
  async function jump(offset, { from = offset, last = false } = {}) {
    const now = main.result, known = offset - (now.base ?? 0);
    if (known >= 0 && known < grid.items.length) return grid.reveal(known);
    document.body.classList.add("searching");
    try {
      const { hits } = await page(now.q, from);
      if (now !== main.result || !hits.length) return;
      main.show(hits, from, last || hits.length < pageSize ? now.total : from + hits.length);
      grid.reveal(offset - from);
    } catch (error) {
      toast(error.message);
    } finally {
      document.body.classList.remove("searching");
    }
  }

  /** Shows the first or the last results. */
  async function edge(step) {
    if (step < 0) await jump(0);
    else {
      const { results } = await orderOf(main.result.q);
      await jump(results - 1, { from: Math.max(0, results - pageSize), last: true });
    }
    return true;
  }

  /** Shows a photo among the results; returns whether it is one of them. */
  async function find(id) {
    if (grid.indexOf(id) < 0 && !complete()) {
      const { at } = await ask(`api/order?${new URLSearchParams({ q: main.result.q, at: id })}`);
      if (at !== null) await jump(at, { from: Math.max(0, at - CONTEXT) });
    }
    return grid.indexOf(id) >= 0;
  }

  /** Shows the dates of a query along the right edge; null hides them. */
  async function dates(q) {
    (await scrubber()).show(q);
  }

  return { before, edge, find, dates };
}
