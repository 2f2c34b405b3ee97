// Justified rows over any number of images. The results carry their sizes, so nothing moves when a
// thumbnail arrives; only tiles near the window are in the document.
import { $, date, debounce, h, icon, load, loadStyles, once, rightward, style, t } from "./dom.js";

const GAP = 6; // pixels between tiles
const DIVIDER = 64; // pixels, the row between strong and less likely matches
const HALF_EMPTY = 0.6; // factor of the height of a row whose photos fill less than half of it
/** Factors of the height of rows: small, medium, large. */
const SIZES = [0.68, 1, 1.5];
/** Off-screen tiles created, and thumbnails requested, per frame. */
const PER_FRAME = 12;

/** Width over height of a tile: extreme shapes are cropped. */
const aspect = ({ width, height }) => Math.min(3.4, Math.max(0.45, width / height || 1));

/** Rows of `items` from index `from`: [{top, height, from, to, divider}]. Fills `positions` with each
 * item's {x, w, row}. The divider precedes the first item that is no strong match. Rows end at
 * `breaks`, where earlier results were added. */
function justify(items, { from = 0, top = 0, width, target, positions, breaks = [] }) {
  const rows = [], weak = items.findIndex((hit) => hit.match === false);
  let start = from, sum = 0;
  const close = (end, height) => {
    for (let i = start, x = 0; i < end; i++) {
      const w = aspect(items[i]) * height;
      positions[i] = { x, w, row: rows.length };
      x += w + GAP;
    }
    rows.push({ top, height, from: start, to: end });
    top += height + GAP;
    [start, sum] = [end, 0];
  };
  const full = (end, total) => (width - GAP * (end - start - 1)) / total;
  for (let i = from; i < items.length; i++) {
    if (breaks.includes(i) && i > start) {
      const height = full(i, sum);
      close(i, height < target * 1.6 ? height : target);
    }
    if (i === weak && i) {
      if (i > start) close(i, Math.min(target * (sum * target < width / 2 ? HALF_EMPTY : 1), full(i, sum)));
      rows.push({ top, height: DIVIDER, from: i, to: i, divider: true });
      top += DIVIDER + GAP;
    }
    const ratio = aspect(items[i]);
    const before = sum && full(i, sum), after = full(i + 1, sum + ratio);
    if (after < target && sum && before < target * 1.45 && before - target < target - after) close(i, before);
    sum += ratio;
    if (full(i + 1, sum) <= target) close(i + 1, full(i + 1, sum));
  }
  if (start < items.length) close(items.length, Math.min(target, full(items.length, sum)));
  return { rows, height: top };
}

/** The items are a window on the results: `base` of them come before. `onNeed(step)` asks for more after
 * (1) or before (-1) them; `onEdge(step)` shows the last (1) or first (-1) results. */
export function createGrid({ onOpen, onNeed, onEdge, onSelect, onRange, onDrag, onKey, stateOf }) {
  const list = $("results");
  let items = [], rows = [], positions = [], total = 0, dated = false;
  let base = 0, breaks = [], size = 1, extra = null;
  let active = 0, lastY = 0, offset = 0, width = 0, anchor = 0, anchorId = null;
  try { size = Number(localStorage.getItem("size") ?? 1); } catch { /* storage is disabled */ }
  const tiles = new Map(); // index -> element
  let dividers = [];

  const target = () => (SIZES[size] ?? 1) * (width < 600 ? Math.max(96, width / 3.4) : Math.min(250, 120 + width / 14));

  /** Pixels that a notice needs of the grid, beside the space for labels and months. */
  function noticeHeight() {
    const { bottom, height } = $("notice").getBoundingClientRect();
    return height && Math.max(0, bottom + 2 * GAP - list.getBoundingClientRect().top);
  }

  const rowsFrom = (from = 0, top = noticeHeight()) => justify(items, { from, top, width, target: target(), positions, breaks });

  function layout() {
    width = list.clientWidth;
    positions = [];
    const made = rowsFrom();
    rows = made.rows;
    style(list, { height: `${made.height}px` });
    const focused = list.contains(document.activeElement);
    clear();
    draw();
    if (focused) tiles.get(active)?.firstChild.focus({ preventScroll: true });
  }

  /** The window's y in the grid, below the header. */
  const top = () => scrollY + $("main").offsetTop - offset;
  let held = null; // the image that keeps its place in the window until the next scroll

  /** Lays out the same results again; the first visible image stays where it is. */
  function relayout() {
    const row = rows[rowAt(top())];
    if (top() > 0 && row) held ??= { item: row.from, y: row.top - top() };
    breaks = [];
    layout();
    if (!held) return;
    scrollTo(0, rows[positions[held.item].row].top - held.y + scrollY - top());
    held.scrollY = scrollY;
    draw();
  }

  /** Lays out items added at the end; everything above the last row stays as it is. */
  function extend(from) {
    let last = rows.length - 1;
    while (last >= 0 && (rows[last].divider || rows[last].to === from)) last--;
    const complete = rows.slice(0, Math.max(0, last + 1));
    const end = complete.at(-1);
    const made = rowsFrom(end?.to, end && end.top + end.height + GAP);
    for (let i = end?.to ?? 0; i < items.length; i++) {
      positions[i].row += complete.length;
    }
    rows = [...complete, ...made.rows];
    for (const tile of tiles.values()) place(tile);
    style(list, { height: `${made.height}px` });
    drawSoon();
  }

  function clear() {
    for (const tile of tiles.values()) drop(tile);
    tiles.clear();
    for (const divider of dividers) divider.remove();
    dividers = [];
  }

  function drop(tile) {
    const image = tile.querySelector("img");
    image.removeAttribute("srcset"); // cancels the download
    image.removeAttribute("src");
    tile.remove();
  }

  const rowAt = (y) => {
    let low = 0, high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle].top + rows[middle].height < y) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  let frame = 0;
  const drawSoon = () => (frame ||= requestAnimationFrame(() => ((frame = 0), draw())));

  function draw() {
    offset = list.offsetTop; // chips, labels or a notice may have appeared above
    const y = scrollY - offset, fast = Math.abs(y - lastY) > innerHeight;
    lastY = y;
    const margin = Math.min(900, innerHeight);
    const first = rowAt(y - margin), needed = new Set(), neededDividers = new Set();
    for (let r = first; r < rows.length && rows[r].top < y + innerHeight + margin; r++) {
      if (rows[r].divider) neededDividers.add(rows[r]);
      for (let i = rows[r].from; i < rows[r].to; i++) needed.add(i);
    }
    for (const [i, tile] of tiles) {
      if (needed.has(i) || tile.contains(document.activeElement)) continue;
      drop(tile);
      tiles.delete(i);
    }
    let budget = PER_FRAME;
    for (const i of needed) {
      if (tiles.has(i)) continue;
      const { top, height } = rows[positions[i].row];
      if (top + height > y && top < y + innerHeight || budget-- > 0) tiles.set(i, add(i, fast));
    }
    if (budget < 0) drawSoon();
    if (fast) loadSoon();
    dividers = dividers.filter((divider) => neededDividers.delete(divider.row) || divider.remove());
    for (const row of neededDividers) dividers.push(addDivider(row));
    const height = rows.length ? rows.at(-1).top + rows.at(-1).height : 0;
    if (y + innerHeight * 4 > height) onNeed(1);
    if (base && y < innerHeight) onNeed(-1);
    if (dated && y > 40) extra?.showMonth(items[rows[rowAt(y)]?.from]);
  }

  /** Starts the download of a tile's thumbnail; false if it is under way. */
  function loadImage(tile) {
    const image = tile.querySelector("img");
    if (image.src) return false;
    const { id, v, width: w, height: hh } = items[tile.index], wide = w / hh || 1;
    const version = v ? `v=${v}` : "";
    const pixels = Math.round(Math.min(1, wide) * 512);
    image.sizes = `${Math.ceil(positions[tile.index].w)}px`;
    image.srcset = `thumbnails/${id}?w=256&${version} ${pixels >> 1}w, thumbnails/${id}?${version} ${pixels}w`;
    return (image.src = `thumbnails/${id}?${version}`);
  }
  function loadSome() {
    let budget = PER_FRAME;
    for (const tile of tiles.values()) if (loadImage(tile) && !--budget) return requestAnimationFrame(loadSome);
  }
  const loadSoon = debounce(90, loadSome);

  /** Where index `i` is inserted: results are read aloud, and printed, in their order. */
  function tileAfter(i) {
    let next = null;
    for (const tile of tiles.values()) if (tile.index > i && !(next?.index < tile.index)) next = tile;
    return next;
  }

  function add(i, fast) {
    const hit = items[i], many = hit.duplicates?.length;
    const image = h("img", { alt: "", decoding: "async" });
    image.addEventListener("load", () => {
      image.classList.add("in");
      extra?.leaveSoon();
    }, { once: true });
    image.addEventListener("error", () => ["srcset", "src"].forEach((name) => image.removeAttribute(name)));
    const link = h("a", { href: `#${hit.id}`, tabindex: i === active ? 0 : -1 }, image);
    const tile = h("li", { class: "tile" }, link);
    if (hit.snippet) tile.append(h("p", { class: "snippet", "aria-hidden": "true" }, hit.snippet));
    if (many) {
      const label = t("page.near_identical", { count: many });
      tile.append(h("button", {
        type: "button", class: "stack", tabindex: i === active ? 0 : -1, "aria-expanded": String(!!hit.expanded),
        "aria-label": label, title: `${label} (e)`, onclick: () => onKey("stack", i),
      }, hit.expanded ? icon("minus") : `+${many}`));
    }
    tile.index = i;
    tile.setAttribute("aria-setsize", total);
    tile.setAttribute("aria-posinset", base + i + 1);
    style(tile, { "background-color": hit.color ?? "var(--soft)" });
    place(tile);
    paint(tile);
    if (!fast) loadImage(tile);
    list.insertBefore(tile, tileAfter(i));
    return tile;
  }

  function place(tile) {
    const { x, w, row } = positions[tile.index], { top, height } = rows[row];
    style(tile, { width: `${w}px`, height: `${height}px`, transform: `translate(${rightward * x}px, ${top}px)` });
  }

  /** Makes an image the one that Tab reaches, with the button of its stack. */
  function activate(i) {
    for (const [at, value] of [[active, -1], [i, 0]]) tiles.get(at)?.querySelectorAll("a,.stack").forEach((node) => (node.tabIndex = value));
    active = i;
  }

  /** Shows the state of a tile: selected, favourite, feedback, member of a stack. */
  function paint(tile) {
    const hit = items[tile.index], { selected, feedback, favourite } = stateOf(hit);
    tile.className = ["tile", selected && "on", feedback && (feedback > 0 ? "more" : "less"), hit.member && "member"].filter(Boolean).join(" ");
    const heart = tile.querySelector(".heart");
    if (!favourite) heart?.remove();
    else if (!heart) tile.append(h("span", { class: "heart" }, icon("heart")));
    const when = hit.taken_at && date(hit.taken_at, { dateStyle: "long" });
    const label = [hit.description || hit.name, hit.snippet, when,
      hit.duplicates?.length && t("page.near_identical", { count: hit.duplicates.length }), favourite && t("page.favourite"), selected && t("page.selected"),
      feedback && t(feedback > 0 ? "page.more_like_this" : "page.less_like_this")];
    tile.firstChild.setAttribute("aria-label", label.filter(Boolean).join(", "));
  }

  function addDivider(row) {
    const divider = h("li", { class: "divider" }, h("span", {}, t("page.less_likely")));
    divider.row = row;
    style(divider, { transform: `translateY(${row.top}px)`, height: `${row.height}px` });
    list.insertBefore(divider, tileAfter(row.from - 1));
    return divider;
  }

  function focus(i) {
    i = Math.max(0, Math.min(items.length - 1, i));
    if (!items.length) return;
    const row = rows[positions[i].row], margin = 90, y = row.top + offset;
    if (row === rows[0]) scrollTo(0, 0);
    else if (y < scrollY + $("main").offsetTop + margin) scrollTo(0, y - $("main").offsetTop - margin);
    else if (y + row.height > scrollY + innerHeight - margin) scrollTo(0, y + row.height - innerHeight + margin);
    activate(i);
    draw();
    tiles.get(i).firstChild.focus({ preventScroll: true });
  }

  /** The nearest item one row up (-1) or down (1). */
  function neighbour(i, step) {
    let row = positions[i].row + step;
    while (rows[row]?.divider) row += step;
    if (!rows[row]) return i;
    const middle = positions[i].x + positions[i].w / 2;
    const gap = (j) => Math.abs(positions[j].x + positions[j].w / 2 - middle);
    let best = rows[row].from;
    for (let j = best; j < rows[row].to; j++) if (gap(j) < gap(best)) best = j;
    return best;
  }

  const setAnchor = (i) => ([anchor, anchorId] = [i, items[i]?.id ?? null]);
  const tileOf = (event) => event.target.closest?.(".tile");
  list.addEventListener("focusin", (event) => {
    const tile = tileOf(event);
    if (!tile) return;
    activate(tile.index);
  });
  list.addEventListener("click", (event) => {
    const tile = tileOf(event);
    if (!tile || !event.target.closest("a") || event.button) return;
    event.preventDefault();
    const i = tile.index;
    // The other end of the range may not be loaded any more.
    if (event.shiftKey && anchorId !== null && items[anchor]?.id !== anchorId) return onRange(anchorId, items[i].id);
    if (event.shiftKey) onSelect(Math.min(anchor, i), Math.max(anchor, i) + 1, true);
    else if (event.ctrlKey || event.metaKey || list.classList.contains("selecting")) onSelect(i, i + 1);
    else return onOpen(i);
    setAnchor(i);
  });
  list.addEventListener("dragstart", (event) => list.classList.contains("selecting") ? event.preventDefault()
    : event.dataTransfer.setData("text/x-sightline", items[tileOf(event)?.index]?.id ?? ""));
  list.addEventListener("keydown", (event) => {
    const tile = tileOf(event);
    if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
    const i = tile.index;
    const next = {
      ArrowLeft: i - rightward, ArrowRight: i + rightward, ArrowUp: neighbour(i, -1), ArrowDown: neighbour(i, 1),
    }[event.key];
    const go = (to) => {
      focus(to);
      if (event.shiftKey) onSelect(Math.min(i, active), Math.max(i, active) + 1, true);
      setAnchor(active);
    };
    if (next !== undefined) {
      event.preventDefault();
      go(next);
    } else if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      const step = event.key === "End" ? 1 : -1, id = items[i].id;
      onEdge(step).then((moved) => {
        if (!moved) return go(step > 0 ? items.length - 1 : 0);
        focus(step > 0 ? items.length - 1 : 0);
        if (event.shiftKey) onRange(id, items[active].id);
      });
    } else if (event.key !== "Enter" && !(event.key === " " && event.target.matches("button"))) {
      setAnchor(i);
      if (onKey(event.key, i)) event.preventDefault();
    }
  });

  addEventListener("scroll", () => {
    if (held && Math.abs(held.scrollY - scrollY) > 1) held = null;
    drawSoon();
  }, { passive: true });
  // What the first use of the pointer or the keyboard may need.
  const inner = {
    list, tiles, tileOf, place, rowAt, top, setAnchor, onDrag, onKey, onSelect, sizes: SIZES.length,
    get items() { return items; }, get rows() { return rows; }, get positions() { return positions; },
    get width() { return width; }, get size() { return size; }, get y() { return scrollY - offset; },
    set size(to) { size = to; relayout(); },
    /** `added` items are now before the others; `from` results before them. */
    shift(added, from) {
      base = from;
      breaks = [added, ...breaks.map((at) => at + added)];
      [active, anchor] = [active + added, anchor + added];
      for (const divider of dividers) divider.remove();
      [dividers, positions] = [[], []];
      const made = rowsFrom();
      rows = made.rows;
      style(list, { height: `${made.height}px` });
    },
    arrived: () => ((lastY = scrollY - offset), draw()),
  };
  const more = once(() => load("grid_more.js").then(({ extendGrid }) => (extra = extendGrid(inner))));
  for (const name of ["pointerover", "focusin", "scroll"]) addEventListener(name, () => more().catch(() => null), { once: true });
  if (matchMedia("(any-pointer: coarse)").matches) more();
  new ResizeObserver(debounce(60, () => list.clientWidth !== width && relayout())).observe(list);

  return {
    /** Focuses an image, by default the active one. */
    focus: (i = active) => focus(i),
    relayout,
    /** Requests again what the server did not answer. */
    retry: () => (loadSome(), drawSoon()),
    item: (i) => items[i],
    slice: (from, to) => items.slice(from, to),
    indexOf: (id) => items.findIndex((hit) => hit.id === id),
    get items() { return items; },
    paint: () => tiles.forEach(paint),
    get base() { return base; },
    /** The index among all results of the first one in the window. */
    position: () => base + (rows[rowAt(top())]?.from ?? 0),
    /** Scrolls an image's row to the top of the window. */
    reveal: (i) => scrollTo(0, rows[positions[i].row].top + list.offsetTop - $("main").offsetTop - GAP),
    /** The next size of thumbnails, after the largest the smallest; returns it. */
    cycleSize: async () => (await more()).setSize((size + 1) % SIZES.length),
    /** Shows new results from the top. `base` of them come before those given. */
    set(result) {
      if (items.length) extra?.stay();
      ({ hits: items, total, dated, base = 0 } = result);
      [active, anchor, anchorId, held, breaks] = [0, 0, result.base === undefined ? null : anchorId, null, []];
      layout();
      extra?.leaveSoon();
    },
    /** Adds the results before those shown, which stay where they are in the window. */
    prepend: async (hits, from) => (await more()).prepend(hits, from),
    /** Adds the next page of the same results. */
    append(hits) {
      const from = items.length;
      items.push(...hits);
      extend(from);
    },
    /** Inserts the members of a stack after its best image, or removes them. */
    splice(i, count, hits) {
      items.splice(i, count, ...hits);
      layout();
    },
  };
}
