// What the grid needs from the first use of the pointer or the keyboard on: earlier results above those
// shown, old tiles that stay while new ones load, sizes of thumbnails, selecting by drag.
import { $, button, date, debounce, h, load, loadStyles, rightward, style, t } from "./dom.js";
import "./strings.actions.js";
import "./icons.js";

/** Milliseconds that old tiles stay at most while the thumbnails of new results load. */
const STAY = 400;
/** Pixels of the wheel for one step of the size. */
const TURN = 40;

/** `grid` is the inside of the grid: what it lends to this module. */
export function extendGrid(grid) {
  const { list, tiles, tileOf } = grid;

  // -- the actions on the tile under the pointer or with the focus, and its name and date

  const actions = h("div", { class: "actions" },
    ...[["check", "select", "actions.select"], ["heart", "f", "actions.favourite"], ["similar", "s", "actions.similar"], ["more", "+", "actions.more"], ["less", "-", "actions.less"]]
      .map(([name, action, label]) => button(name, t(label), null, { "data-do": action })));
  const caption = h("p", { class: "caption", "aria-hidden": "true" });

  async function showActions(tile) {
    await loadStyles("more.css").catch(() => (tile = null));
    if (!tile?.isConnected || !list.contains(tile) || actions.parentNode === tile) return;
    const { name, taken_at: taken } = grid.items[tile.index];
    caption.replaceChildren(h("span", {}, name), taken ? h("span", {}, date(taken, { dateStyle: "medium" })) : "");
    tile.append(actions, caption);
  }
  const focused = () => {
    const tile = document.activeElement.closest?.(".tile");
    if (tile?.querySelector(":focus-visible")) showActions(tile);
  };
  list.addEventListener("pointerover", (event) => event.pointerType === "mouse" && showActions(tileOf(event)));
  list.addEventListener("focusin", focused);
  focused();
  showActions(list.querySelector(".tile:hover"));
  actions.addEventListener("click", (event) => {
    const action = event.target.closest("button")?.dataset.do, i = tileOf(event).index;
    grid.setAnchor(i);
    if (action) grid.onKey(action, i);
  });

  // -- the month of the first row while scrolling

  const bubble = h("div", { class: "bubble", "aria-hidden": "true", hidden: true });
  loadStyles("more.css").catch(() => null);
  const hideBubble = debounce(900, () => (bubble.hidden = true));
  list.after(bubble);
  function showMonth(item) {
    if (!item || $("timeline").classList.contains("none")) return;
    bubble.textContent = item.taken_at ? date(item.taken_at, { month: "long", year: "numeric" }) : t("actions.no_date");
    bubble.hidden = false;
    hideBubble();
  }

  /** Adds the results before those shown, which stay where they are in the window. */
  function prepend(hits, from) {
    const { rows, rowAt, top } = grid, row = rows[rowAt(top())], y = row ? row.top - top() : 0, item = (row?.from ?? 0) + hits.length;
    grid.items.unshift(...hits);
    const moved = [...tiles];
    tiles.clear();
    for (const [i, tile] of moved) tiles.set((tile.index = i + hits.length), tile);
    grid.shift(hits.length, from);
    for (const tile of tiles.values()) grid.place(tile);
    const found = grid.rows[grid.positions[item]?.row];
    if (found) scrollTo(0, found.top - y + scrollY - top());
    grid.arrived();
  }

  // -- Ctrl and the wheel, or a pinch on a touchpad, change the size of the thumbnails

  let turned = 0;
  list.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    turned += event.deltaY;
    if (Math.abs(turned) < TURN) return;
    setSize(grid.size - Math.sign(turned));
    turned = 0;
  }, { passive: false });

  function setSize(to) {
    to = Math.max(0, Math.min(grid.sizes - 1, to));
    if (to !== grid.size) {
      grid.size = to;
      try { localStorage.setItem("size", to); } catch { /* storage is disabled */ }
    }
    return to;
  }

  // -- old tiles stay in the window until the thumbnails of new results are there

  const shown = (tile) => {
    const { top, height } = grid.rows[grid.positions[tile.index].row], { y } = grid;
    return top + height > y && top < y + innerHeight;
  };
  const loaded = (tile) => tile.querySelector("img.in");
  let ghost = null, leaving = 0;
  const leaveSoon = () => ghost && (leaving ||= requestAnimationFrame(() => {
    leaving = 0;
    if ([...tiles.values()].every((tile) => loaded(tile) || !shown(tile))) leave();
  }));
  function leave() {
    ghost?.remove();
    ghost = null;
  }

  /** Moves the visible tiles out of the list, to where they are in the window. */
  function stay() {
    const old = [...tiles].filter(([, tile]) => shown(tile) && loaded(tile));
    if (old.length < tiles.size / 4) return; // what is there is loading itself
    leave();
    const { left, top } = list.getBoundingClientRect(), own = (ghost = h("div", { class: "ghost", inert: true, "aria-hidden": "true" }));
    style(own, { position: "fixed", "z-index": 1, "pointer-events": "none", left: `${left}px`, top: `${top}px`, width: `${grid.width}px` });
    actions.remove();
    caption.remove();
    for (const [i, tile] of old) {
      tiles.delete(i);
      own.append(tile);
    }
    document.body.append(own);
    setTimeout(() => ghost === own && leave(), STAY);
  }

  // -- selecting by drag: a rectangle with the mouse, a range with the finger

  /** The items in a box of the list's coordinates. */
  function inside({ left, right, top, bottom }) {
    const { rows, positions, items, width } = grid, found = [];
    if (rightward < 0) [left, right] = [width - right, width - left];
    for (let r = grid.rowAt(top); r < rows.length && rows[r].top < bottom; r++) {
      for (let i = rows[r].from; i < rows[r].to; i++) if (positions[i].x < right && positions[i].x + positions[i].w > left) found.push(items[i]);
    }
    return found;
  }

  // A rectangle starts between photos, or on any photo while something is selected.
  $("main").addEventListener("pointerdown", (event) => {
    const { target } = event, between = target === list || target === $("main");
    if (event.pointerType !== "mouse" || event.button || !(between || (list.classList.contains("selecting") && target.closest(".tile > a")))) return;
    if (between) event.preventDefault(); // no text is selected
    const onSelect = grid.onDrag();
    held = event;
    load("drag_select.js").then(({ startRectangle }) => held === event && startRectangle(event, { list, inside, onSelect }));
  });
  let held = null; // the press that may become a drag
  for (const name of ["pointerup", "pointercancel", "touchend", "touchcancel"]) addEventListener(name, () => (held = null), { capture: true });

  if (matchMedia("(any-pointer: coarse)").matches) load("touch.js").then(({ longPress }) => longPress(list, (event) => {
    const i = tileOf(event).index;
    grid.setAnchor(i);
    grid.onSelect(i, i + 1, true);
    const drag = grid.onDrag();
    held = event;
    load("drag_select.js").then(({ startRange }) => held === event && startRange(i, { list, onSelect: (from, to) => drag(grid.items.slice(from, to)) }));
  }));

  return { prepend, setSize, stay, leaveSoon, showMonth };
}
