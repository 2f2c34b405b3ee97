// Selects photos by dragging: a rectangle with the mouse, from the space between photos or from any
// photo while something is selected; a range with the finger after a long press. Loaded with the first
// press that may become one.
import { h, style } from "./dom.js";

const MIN = 5; // pixels that make a press a drag
const EDGE = 70; // pixels from the edge of the window where it scrolls
const SPEED = 16; // pixels per frame

/** Scrolls while `y` is near the edge of the window; `moved` follows. */
function createAutoScroll(moved) {
  let y = null, frame = 0;
  const step = () => {
    const by = y < EDGE + 60 ? -SPEED : y > innerHeight - EDGE ? SPEED : 0;
    if (by) (scrollBy(0, by), moved());
    frame = y === null ? 0 : requestAnimationFrame(step);
  };
  return {
    at: (to) => { y = to; frame ||= requestAnimationFrame(step); },
    stop: () => { y = null; cancelAnimationFrame(frame); frame = 0; },
  };
}

/** A rectangle from a press of the mouse. `inside(box)` is the indexes of the photos in a box of the
 * grid's coordinates; `onSelect(indexes)` shows them, and is called again with every move. */
export function startRectangle(event, { list, inside, onSelect, onEnd }) {
  const from = { x: event.clientX, y: event.clientY + scrollY };
  let to = from, rectangle = null;
  const auto = createAutoScroll(() => draw());
  const point = { x: event.clientX, y: event.clientY };

  function draw() {
    to = { x: point.x, y: point.y + scrollY };
    const [left, right] = [from.x, to.x].sort((a, b) => a - b), [top, bottom] = [from.y, to.y].sort((a, b) => a - b);
    style(rectangle, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
    const { left: x, top: y } = list.getBoundingClientRect();
    onSelect(inside({ left: left - x, right: right - x, top: top - y - scrollY, bottom: bottom - y - scrollY }));
  }
  const move = (event) => {
    [point.x, point.y] = [event.clientX, event.clientY];
    if (!rectangle) {
      if (Math.hypot(point.x - from.x, point.y + scrollY - from.y) < MIN) return;
      rectangle = h("div", { class: "rectangle", "aria-hidden": "true" });
      document.body.append(rectangle);
      document.body.classList.add("dragging");
    }
    auto.at(event.clientY);
    draw();
  };
  const end = () => {
    removeEventListener("pointermove", move);
    auto.stop();
    document.body.classList.remove("dragging");
    if (!rectangle) return;
    rectangle.remove();
    // The click that follows would open or deselect a photo.
    const swallow = (click) => (click.preventDefault(), click.stopPropagation());
    addEventListener("click", swallow, { capture: true, once: true });
    setTimeout(() => removeEventListener("click", swallow, { capture: true }), 50);
    onEnd?.();
  };
  addEventListener("pointermove", move);
  for (const name of ["pointerup", "pointercancel"]) addEventListener(name, end, { once: true });
}

/** A range with the finger, after a long press on photo `first`. */
export function startRange(first, { list, onSelect }) {
  let touch = null;
  const under = () => {
    const tile = touch && document.elementFromPoint(touch.clientX, touch.clientY)?.closest?.(".tile");
    if (tile && list.contains(tile)) onSelect(Math.min(first, tile.index), Math.max(first, tile.index) + 1);
  };
  const auto = createAutoScroll(under);
  const move = (event) => {
    event.preventDefault(); // the page stays
    touch = event.touches[0];
    auto.at(touch.clientY);
    under();
  };
  const end = () => {
    list.removeEventListener("touchmove", move);
    auto.stop();
  };
  list.addEventListener("touchmove", move, { passive: false });
  for (const name of ["touchend", "touchcancel"]) list.addEventListener(name, end, { once: true });
}
