// Jumps to a date: the months of the whole result along the right edge of the window, by pointer, touch
// and keyboard. Loaded when results by date are scrolled.
import { $, date, debounce, h, loadStyles, rightward, style, t } from "./dom.js";
import "./strings.actions.js";
import { orderOf } from "./order.js";

const YEAR_HEIGHT = 22; // pixels between the names of two years
const REST = 1500; // milliseconds without scrolling after which the years fade
const JUMP_PAUSE = 140; // milliseconds of rest after which a drag shows the results

const name = (month) => (month ? date(`${month}-01T00:00`, { month: "long", year: "numeric" }) : t("actions.no_date"));

/** `jump(offset)` shows the results from there; `position()` is the offset of the first visible one. */
export function createScrubber({ jump, position }) {
  const thumb = h("i", { class: "thumb-line" }), bubble = h("span", { class: "scrub-label", hidden: true });
  const years = h("div", { class: "years", "aria-hidden": "true" });
  const rail = h("div", {
    class: "scrubber", role: "slider", tabindex: 0, "aria-label": t("actions.jump_to_date"), "aria-orientation": "vertical", "aria-valuemin": 0, hidden: true,
  }, years, thumb, bubble);
  document.body.append(rail);
  let q = null, months = [], results = 0, at = 0, dragging = false;

  /** Shows the dates of a query; null hides them. */
  async function show(next) {
    if (next === q) return update();
    q = next;
    rail.hidden = true;
    if (q === null) return;
    const [found] = await Promise.all([orderOf(q).catch(() => null), loadStyles("kept.css")]);
    if (q !== next || !found || found.months.length < 2) return;
    ({ months, results } = found);
    rail.hidden = false;
    rail.setAttribute("aria-valuemax", months.length - 1);
    draw();
    update();
  }

  function draw() {
    if (rail.hidden) return;
    const height = rail.clientHeight, labels = [];
    let lastY = -YEAR_HEIGHT, lastYear = null;
    for (const { month, offset } of months) {
      const y = (offset / results) * height, year = month?.slice(0, 4) ?? "–";
      if (year !== lastYear && y - lastY >= YEAR_HEIGHT && y < height - 8) {
        labels.push(place(h("b", {}, year), y));
        [lastY, lastYear] = [y, year];
      } else labels.push(place(h("s", {}), y));
    }
    years.replaceChildren(...labels);
  }

  const place = (node, y) => (style(node, { top: `${y}px` }), node);
  const monthAt = (offset) => Math.max(0, months.findLastIndex((one) => one.offset <= offset));

  /** Marks the position of the results. */
  function update() {
    if (rail.hidden || dragging) return;
    at = monthAt(position());
    mark(position());
  }

  function mark(offset) {
    style(thumb, { transform: `translateY(${(rail.clientHeight * offset) / Math.max(1, results)}px)` });
    rail.setAttribute("aria-valuenow", at);
    rail.setAttribute("aria-valuetext", name(months[at].month));
  }

  function go(index) {
    at = Math.max(0, Math.min(months.length - 1, index));
    mark(months[at].offset);
    jump(months[at].offset);
  }

  function point(event) {
    const { top, height } = rail.getBoundingClientRect();
    const part = Math.max(0, Math.min(0.9999, (event.clientY - top) / height));
    const index = monthAt(Math.floor(part * results));
    bubble.textContent = name(months[index].month);
    bubble.hidden = false;
    style(bubble, { top: `${part * height}px` });
    return index;
  }

  const jumpSoon = debounce(JUMP_PAUSE, () => dragging && go(at));
  rail.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    rail.setPointerCapture(event.pointerId);
    dragging = true;
    at = point(event);
    mark(months[at].offset);
    jumpSoon();
  });
  rail.addEventListener("pointermove", (event) => {
    const index = point(event);
    if (!dragging || index === at) return;
    at = index;
    mark(months[at].offset);
    jumpSoon();
  });
  const end = () => {
    bubble.hidden = true;
    if (!dragging) return;
    dragging = false;
    go(at);
  };
  rail.addEventListener("pointerup", end);
  rail.addEventListener("pointercancel", end);
  rail.addEventListener("pointerleave", () => dragging || (bubble.hidden = true));
  rail.addEventListener("keydown", (event) => {
    const year = () => months[at].month?.slice(0, 4);
    const toYear = (step) => {
      let to = at;
      while (months[to + step] && months[to].month?.slice(0, 4) === year()) to += step;
      return to;
    };
    const to = { ArrowDown: at + 1, ArrowRight: at + rightward, ArrowUp: at - 1, ArrowLeft: at - rightward, Home: 0, End: months.length - 1 }[event.key]
      ?? (event.key === "PageDown" ? toYear(1) : event.key === "PageUp" ? toYear(-1) : null);
    if (to === null) return;
    event.preventDefault();
    event.stopPropagation();
    go(to);
  });
  const rest = debounce(REST, () => dragging || rail.classList.remove("moving"));
  addEventListener("scroll", () => (rail.classList.add("moving"), updateSoon(), rest()), { passive: true });
  const updateSoon = debounce(80, update);
  addEventListener("resize", debounce(120, draw));
  return { show, update };
}
