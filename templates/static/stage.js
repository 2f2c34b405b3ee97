// A picture in its frame: fitted, zoomed, moved, and a part of it chosen, by mouse, by fingers and by
// keys. Loaded when a picture is first looked at.
import { announce, button, h, style } from "./dom.js";
import "./icons.js";

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Of a side of the picture: what an arrow key moves the box by, and how small it may become. */
const STEP = 0.02;
/** How near to a corner of the box it is taken hold of, in px. */
const CORNER = 24;
const PREVIEW = 2048;

/** `onPart` is given the box that was chosen: left, top, right, bottom, 0 to 1. `onTurn`: a swipe. */
export function createStage({ onPart, onTurn = () => null }) {
  let shown = { width: 1, height: 1 }, view = { scale: 1, x: 0, y: 0 }, box = null;
  const picture = h("img", { alt: "", draggable: "false" });
  picture.setAttribute("draggable", "false");
  const crop = h("div", { class: "crop", hidden: true });
  const search = h("button", { type: "button", class: "solid", onclick: () => onPart(box.map((value) => value.toFixed(3))) }, "Search with this part");
  const cropbar = h("div", { class: "cropbar", hidden: true },
    h("span", { class: "hint" }, "Drag a box", h("span", { class: "keys" }, ", or use the arrow keys (Shift: size)")), search);
  const node = h("div", { class: "stage" }, picture, crop, cropbar);
  const tools = [button("minus", "Zoom out (−)", () => zoom(1 / 1.5)), button("plus", "Zoom in (+)", () => zoom(1.5))];

  /** `src` at once, `better` when it is there, `own` once it is zoomed beyond what `better` holds. */
  function show(next) {
    shown = next;
    picture.src = next.src;
    picture.alt = next.alt;
    style(node, { "--tint": next.color ?? "#222" });
    if (next.better) swap(next.better);
    fit();
  }

  function swap(src) {
    const now = shown, image = new Image();
    image.src = src;
    image.decode().then(() => shown === now && (picture.src = src), () => null);
  }

  // -- where it is: fitted into the stage, then scaled and moved

  function frame() {
    const { clientWidth: w, clientHeight: hh } = node, ratio = shown.width / shown.height || 1;
    const width = Math.min(w, hh * ratio, Math.max(shown.width, 320)), height = width / ratio;
    return { left: (w - width) / 2, top: (hh - height) / 2, width, height };
  }

  /** The same as it is seen, zoomed and moved about the middle. */
  function seen() {
    const { left, top, width, height } = frame(), { scale, x, y } = view;
    return { left: left + x - width * (scale - 1) / 2, top: top + y - height * (scale - 1) / 2, width: width * scale, height: height * scale };
  }

  function place() {
    const { left, top, width, height } = frame(), { scale, x, y } = view, now = seen();
    style(picture, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px`,
      transform: `translate(${x}px, ${y}px) scale(${scale})` });
    node.classList.toggle("zoomed", scale > 1);
    if (box) style(crop, { left: `${now.left + box[0] * now.width}px`, top: `${now.top + box[1] * now.height}px`,
      width: `${(box[2] - box[0]) * now.width}px`, height: `${(box[3] - box[1]) * now.height}px` });
  }

  function fit() {
    view = { scale: 1, x: 0, y: 0 };
    place();
  }

  function shift(x, y) {
    const { width, height } = frame(), { scale } = view;
    const roomX = Math.max(0, (width * scale - node.clientWidth) / 2), roomY = Math.max(0, (height * scale - node.clientHeight) / 2);
    view.x = clamp(x, -roomX, roomX);
    view.y = clamp(y, -roomY, roomY);
    place();
  }

  /** By a factor, keeping the point under (px, py) where it is; the middle without one. */
  function zoom(factor, px, py) {
    const scale = clamp(view.scale * factor, 1, 12), by = scale / view.scale;
    const cx = (px ?? node.clientWidth / 2) - node.clientWidth / 2, cy = (py ?? node.clientHeight / 2) - node.clientHeight / 2;
    const { x, y } = view;
    view.scale = scale;
    shift(cx - (cx - x) * by, cy - (cy - y) * by);
    const { own, width } = shown;
    if (scale > 2 && own && width > PREVIEW && !picture.src.endsWith(own)) swap(own);
  }

  const local = (event) => {
    const { left, top } = node.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  node.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0022)), ...local(event));
  }, { passive: false });
  node.addEventListener("dblclick", (event) => {
    if (event.target.closest("button") || box) return;
    if (view.scale > 1) fit();
    else zoom(Math.max(2, shown.width / frame().width), ...local(event));
  });

  const fingers = new Map();
  let drag = null;

  /** Between two fingers, in px. */
  function spread() {
    const [[x, y], [ox, oy] = [x, y]] = [...fingers.values()];
    return Math.hypot(x - ox, y - oy) || 1;
  }

  /** Where a drag of the box starts: at the corner opposite to the one it takes hold of, if any. */
  function start([x, y]) {
    const { left, top, width, height } = seen();
    const xs = [left + box[0] * width, left + box[2] * width], ys = [top + box[1] * height, top + box[3] * height];
    const [i, j] = [xs.findIndex((at) => Math.abs(at - x) < CORNER), ys.findIndex((at) => Math.abs(at - y) < CORNER)];
    return i < 0 || j < 0 ? [x, y] : [xs[1 - i], ys[1 - j]];
  }

  node.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button,.cropbar")) return;
    fingers.set(event.pointerId, local(event));
    const from = local(event);
    if (drag && box) box = drag.box; // a second finger zooms: what the first drew was not meant
    drag = { from: box ? start(from) : from, view: { ...view }, box, pinched: fingers.size > 1, spread: spread() };
    node.setPointerCapture(event.pointerId);
  });
  node.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, local(event));
    const [[x, y], other] = [...fingers.values()], [fromX, fromY] = drag.from;
    if (other) {
      zoom(spread() / drag.spread, (x + other[0]) / 2, (y + other[1]) / 2);
      drag.spread = spread();
    } else if (drag.pinched) return;
    else if (box) {
      const { left, top, width, height } = seen();
      const part = (value, from, size) => clamp((value - from) / size, 0, 1);
      const [ax, bx] = [part(fromX, left, width), part(x, left, width)], [ay, by] = [part(fromY, top, height), part(y, top, height)];
      box = [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
      place();
    } else if (view.scale > 1) shift(drag.view.x + x - fromX, drag.view.y + y - fromY);
  });
  for (const name of ["pointerup", "pointercancel"]) node.addEventListener(name, (event) => {
    if (!fingers.delete(event.pointerId) || fingers.size) return;
    const [x, y] = local(event), sideways = x - drag.from[0];
    if (box) {
      // A touch that hardly moved draws no box.
      if (box[2] - box[0] < STEP || box[3] - box[1] < STEP) box = drag.box;
      place();
      search.focus();
    } else if (event.pointerType === "touch" && view.scale === 1 && !drag.pinched && Math.abs(sideways) > 50
      && Math.abs(sideways) > 2 * Math.abs(y - drag.from[1])) onTurn(sideways < 0 ? 1 : -1);
    drag = null;
  });
  new ResizeObserver(fit).observe(node);

  // -- a part of it

  /** Shows a box to search with: the one given, or the middle of what is seen; or takes it away. */
  function cropping(on, given = null) {
    const held = cropbar.contains(document.activeElement);
    box = on ? given ?? middle() : null;
    crop.hidden = cropbar.hidden = !on;
    place();
    if (on) {
      search.focus();
      announce("Drag a box, or move it with the arrow keys; with Shift they change its size");
    }
    return held;
  }

  function middle() {
    const { left, top, width, height } = seen(), { clientWidth: w, clientHeight: hh } = node;
    const [x0, y0] = [Math.max(0, -left / width), Math.max(0, -top / height)];
    const [x1, y1] = [Math.min(1, (w - left) / width), Math.min(1, (hh - top) / height)];
    return [(3 * x0 + x1) / 4, (3 * y0 + y1) / 4, (x0 + 3 * x1) / 4, (y0 + 3 * y1) / 4];
  }

  function nudge(event) {
    const [dx, dy] = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    const [x0, y0, x1, y1] = box;
    if (event.shiftKey) box = [x0, y0, clamp(x1 + dx, x0 + STEP, 1), clamp(y1 + dy, y0 + STEP, 1)];
    else {
      const mx = clamp(dx, -x0, 1 - x1), my = clamp(dy, -y0, 1 - y1);
      box = [x0 + mx, y0 + my, x1 + mx, y1 + my];
    }
    place();
  }

  /** Whether the key was the stage's own. */
  function key(event) {
    const arrow = event.key.startsWith("Arrow");
    if (box && arrow) nudge(event);
    else if (view.scale > 1 && event.shiftKey && arrow) {
      const step = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] }[event.key];
      shift(view.x + step[0], view.y + step[1]);
    } else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") fit();
    else return false;
    return true;
  }

  return { node, tools, cropbar, show, cropping, key, clear: () => (picture.src = "data:,"), get cut() { return !!box; } };
}
