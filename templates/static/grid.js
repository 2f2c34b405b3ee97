// Justified rows over any number of pictures: sizes come with the results, so nothing moves when a
// thumbnail arrives, and only the rows near the window are in the document.
import { $, date, h, icon, later, matches, sheet, style } from "./dom.js";

const GAP = 6;
const LINE = 64;
/** Tiles outside the window made, and pictures asked for, in one frame: others wait for the next. */
const AHEAD = 12;

/** Very long and very tall pictures are cut a little at the ends; all others keep their shape. */
const shape = ({ width, height }) => Math.min(3.4, Math.max(0.45, width / height || 1));

/** Rows of `items` from index `from` on: [{top, height, from, to, line}], and each item's place in `place`. */
export function justify(items, { from = 0, top = 0, width, target, place, good }) {
  const rows = [];
  let start = from, sum = 0;
  const close = (end, height) => {
    for (let i = start, x = 0; i < end; i++) {
      const w = shape(items[i]) * height;
      place[i] = { x, w, row: rows.length };
      x += w + GAP;
    }
    rows.push({ top, height, from: start, to: end });
    top += height + GAP;
    [start, sum] = [end, 0];
  };
  const full = (end, total) => (width - GAP * (end - start - 1)) / total;
  for (let i = from; i < items.length; i++) {
    if (i === good && i) {
      if (i > start) close(i, Math.min(target, full(i, sum)));
      rows.push({ top, height: LINE, from: i, to: i, line: true });
      top += LINE + GAP;
    }
    const ratio = shape(items[i]);
    const before = sum && full(i, sum), after = full(i + 1, sum + ratio);
    if (after < target && sum && before < target * 1.45 && before - target < target - after) close(i, before);
    sum += ratio;
    if (full(i + 1, sum) <= target) close(i + 1, full(i + 1, sum));
  }
  if (start < items.length) close(items.length, Math.min(target, full(items.length, sum)));
  return { rows, height: top };
}

export function createGrid({ onOpen, onNeed, onChoose, onKey, actions, stateOf }) {
  const list = $("results");
  const bubble = h("div", { class: "bubble", "aria-hidden": "true", hidden: true });
  list.after(bubble);
  let items = [], rows = [], place = [], total = 0, good = null, dated = false;
  let active = 0, lastY = 0, offset = 0, width = 0, anchor = 0;
  const tiles = new Map();
  let lines = [];

  const target = () => (width < 600 ? Math.max(96, width / 3.4) : Math.min(250, 120 + width / 14));

  function layout() {
    width = list.clientWidth;
    place = [];
    const made = justify(items, { width, target: target(), place, good });
    rows = made.rows;
    style(list, { height: `${made.height}px` });
    clear();
    draw();
  }

  /** Later pages: everything above the last row stays as it is. */
  function extend(from) {
    let last = rows.length - 1;
    while (last >= 0 && (rows[last].line || rows[last].to === from)) last--;
    const kept = rows.slice(0, Math.max(0, last + 1));
    const end = kept.at(-1);
    const made = justify(items, {
      from: end?.to ?? 0, top: end ? end.top + end.height + GAP : 0, width, target: target(), place, good,
    });
    for (let i = end?.to ?? 0; i < items.length; i++) {
      place[i].row += kept.length;
      tiles.get(i)?.remove();
      tiles.delete(i);
    }
    rows = [...kept, ...made.rows];
    style(list, { height: `${made.height}px` });
    soon();
  }

  function clear() {
    for (const tile of tiles.values()) drop(tile);
    tiles.clear();
    for (const line of lines) line.remove();
    lines = [];
  }

  function drop(tile) {
    const image = tile.querySelector("img");
    image.removeAttribute("srcset"); // stops a load that nobody waits for
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

  let asked = 0;
  const soon = () => (asked ||= requestAnimationFrame(() => ((asked = 0), draw())));

  function draw() {
    offset = list.offsetTop; // what stands above may have grown: chips, labels, a notice
    const y = scrollY - offset, fast = Math.abs(y - lastY) > innerHeight;
    lastY = y;
    const ahead = Math.min(900, innerHeight);
    const first = rowAt(y - ahead), wanted = new Set(), wantedLines = new Set();
    let last = first;
    for (; last < rows.length && rows[last].top < y + innerHeight + ahead; last++) {
      if (rows[last].line) wantedLines.add(rows[last]);
      for (let i = rows[last].from; i < rows[last].to; i++) wanted.add(i);
    }
    for (const [i, tile] of tiles) {
      if (wanted.has(i) || tile.contains(document.activeElement)) continue;
      drop(tile);
      tiles.delete(i);
    }
    let room = AHEAD;
    for (const i of wanted) {
      if (tiles.has(i)) continue;
      const { top, height } = rows[place[i].row];
      if (top + height > y && top < y + innerHeight || room-- > 0) tiles.set(i, add(i, fast));
    }
    if (room < 0) soon();
    if (fast) fillSoon();
    lines = lines.filter((line) => wantedLines.delete(line.row) || line.remove());
    for (const row of wantedLines) lines.push(addLine(row));
    const height = rows.length ? rows.at(-1).top + rows.at(-1).height : 0;
    if (y + innerHeight * 4 > height) onNeed();
    if (dated && y > 40 && rows[rowAt(y)]) {
      const at = items[rows[rowAt(y)].from]?.taken_at;
      bubble.textContent = at ? date(at, { month: "long", year: "numeric" }) : "No date";
      bubble.hidden = false;
      hideBubble();
    }
  }
  const hideBubble = later(900, () => (bubble.hidden = true));

  function fill(tile) {
    const image = tile.querySelector("img");
    if (image.src) return false;
    const { id, v, width: w, height: hh } = items[tile.index], wide = w / hh || 1;
    const version = v ? `v=${v}` : "";
    const pixels = Math.round(Math.min(1, wide) * 512);
    image.sizes = `${Math.ceil(place[tile.index].w)}px`;
    image.srcset = `/thumbnails/${id}?w=256&${version} ${pixels >> 1}w, /thumbnails/${id}?${version} ${pixels}w`;
    return (image.src = `/thumbnails/${id}?${version}`);
  }
  function fillSome() {
    let room = AHEAD;
    for (const tile of tiles.values()) if (fill(tile) && !--room) return requestAnimationFrame(fillSome);
  }
  const fillSoon = later(90, fillSome);

  function add(i, fast) {
    const hit = items[i], { x, w, row } = place[i], many = hit.duplicates?.length;
    const image = h("img", { alt: "", decoding: "async" });
    image.addEventListener("load", () => image.classList.add("in"), { once: true });
    const link = h("a", { href: `#${hit.id}`, tabindex: i === active ? 0 : -1 }, image);
    const tile = h("li", { class: "tile" }, link);
    if (many) {
      tile.append(h("button", {
        type: "button", class: "stack", tabindex: -1, "aria-expanded": String(!!hit.open),
        "aria-label": `${many} more nearly the same`, title: `${many} more nearly the same`,
        onclick: () => onKey("stack", i),
      }, hit.open ? icon("minus") : `+${many}`));
    }
    tile.index = i;
    tile.setAttribute("aria-setsize", total);
    tile.setAttribute("aria-posinset", i + 1);
    style(tile, {
      width: `${w}px`, height: `${rows[row].height}px`, transform: `translate(${x}px, ${rows[row].top}px)`,
      "background-color": hit.color ?? "var(--soft)",
    });
    paint(tile);
    if (!fast) fill(tile);
    list.append(tile);
    return tile;
  }

  /** The state that can change while a tile is shown: chosen, marked, part of a stack. */
  function paint(tile) {
    const hit = items[tile.index], state = stateOf(hit);
    tile.className = ["tile", state.chosen && "on", state.mark && (state.mark > 0 ? "more" : "less"),
      hit.member && "member", good !== null && tile.index >= good && "weak"].filter(Boolean).join(" ");
    const said = [hit.name, hit.taken_at && date(hit.taken_at, { dateStyle: "long" }), state.chosen && "chosen",
      state.mark && (state.mark > 0 ? "more like this" : "less like this")];
    tile.firstChild.setAttribute("aria-label", said.filter(Boolean).join(", "));
  }

  function addLine(row) {
    const line = h("li", { class: "line" }, h("span", {}, good ? `${matches(good)} above, less likely below` : "Less likely"));
    line.row = row;
    style(line, { transform: `translateY(${row.top}px)`, height: `${row.height}px` });
    list.append(line);
    return line;
  }

  function focus(i) {
    i = Math.max(0, Math.min(items.length - 1, i));
    if (!items.length) return;
    const row = rows[place[i].row], margin = 90, y = row.top + offset;
    if (y < scrollY + $("main").offsetTop + margin) scrollTo(0, y - $("main").offsetTop - margin);
    else if (y + row.height > scrollY + innerHeight - margin) scrollTo(0, y + row.height - innerHeight + margin);
    tiles.get(active)?.firstChild.setAttribute("tabindex", -1);
    active = i;
    draw();
    tiles.get(i).firstChild.setAttribute("tabindex", 0);
    tiles.get(i).firstChild.focus({ preventScroll: true });
  }

  function beside(i, step) {
    let row = place[i].row + step;
    while (rows[row]?.line) row += step;
    if (!rows[row]) return i;
    const middle = place[i].x + place[i].w / 2;
    const gap = (j) => Math.abs(place[j].x + place[j].w / 2 - middle);
    let best = rows[row].from;
    for (let j = best; j < rows[row].to; j++) if (gap(j) < gap(best)) best = j;
    return best;
  }

  const tileOf = (event) => event.target.closest?.(".tile");
  const show = async (tile) => {
    await Promise.all([sheet("more.css"), import("./icons.js")]);
    if (tile?.isConnected && actions.parentNode !== tile) tile.append(actions);
  };

  list.addEventListener("pointerover", (event) => event.pointerType === "mouse" && show(tileOf(event)));
  list.addEventListener("focusin", (event) => {
    const tile = tileOf(event);
    if (!tile) return;
    active = tile.index;
    show(tile);
  });
  actions.addEventListener("click", (event) => {
    const what = event.target.closest("button")?.dataset.do;
    anchor = tileOf(event).index;
    if (what) onKey(what, anchor, event);
  });
  list.addEventListener("click", (event) => {
    const tile = tileOf(event);
    if (!tile || !event.target.closest("a") || event.button) return;
    event.preventDefault();
    const i = tile.index;
    if (event.shiftKey) onChoose(Math.min(anchor, i), Math.max(anchor, i) + 1, true);
    else if (event.ctrlKey || event.metaKey || list.classList.contains("choosing")) onChoose(i, i + 1);
    else return onOpen(i);
    anchor = i;
  });
  if (matchMedia("(any-pointer: coarse)").matches)
    import("./touch.js").then(({ longPress }) => longPress(list, (event) => onChoose((anchor = tileOf(event).index), anchor + 1, true)));

  list.addEventListener("keydown", (event) => {
    const tile = tileOf(event);
    if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
    const i = tile.index;
    const next = {
      ArrowLeft: i - 1, ArrowRight: i + 1, ArrowUp: beside(i, -1), ArrowDown: beside(i, 1), Home: 0, End: items.length - 1,
    }[event.key];
    if (next !== undefined) {
      event.preventDefault();
      focus(next);
      if (event.shiftKey) onChoose(Math.min(i, active), Math.max(i, active) + 1, true);
      anchor = active;
    } else if (event.key !== "Enter" && onKey(event.key, (anchor = i), event)) event.preventDefault();
  });

  list.addEventListener("dragstart", (event) =>
    event.dataTransfer.setData("text/x-sightline", items[tileOf(event)?.index]?.id ?? ""));

  addEventListener("scroll", soon, { passive: true });
  let seen = 0;
  new ResizeObserver(later(60, () => list.clientWidth !== seen && ((seen = list.clientWidth), layout()))).observe(list);

  return {
    focus,
    relayout: layout,
    item: (i) => items[i],
    slice: (from, to) => items.slice(from, to),
    indexOf: (id) => items.findIndex((hit) => hit.id === id),
    get items() { return items; },
    paint: () => tiles.forEach(paint),
    /** Makes the tile anew: what is said of its stack has changed. */
    refresh(i) {
      tiles.get(i)?.remove();
      tiles.delete(i);
      draw();
    },
    /** New results, from the top. */
    set(result) {
      ({ hits: items, total } = result);
      good = result.line;
      dated = result.dated;
      [active, anchor] = [0, 0];
      layout();
    },
    /** The next page of the same results. */
    append(hits) {
      const from = items.length;
      items.push(...hits);
      extend(from);
    },
    /** Puts near-identical shots behind the one they are folded under, or takes them away. */
    splice(i, count, hits) {
      items.splice(i, count, ...hits);
      if (good !== null && i <= good) good += hits.length - count;
      layout();
    },
  };
}
