// An image fitted into a frame, with zoom, pan and crop by mouse, touch and keyboard. Loaded with the
// lightbox.
//
// Three coordinate systems: the stage (CSS pixels), the fitted image (`fitted`), and the image as zoomed
// and panned (`visible`). A crop is a box of fractions of the image: left, top, right, bottom.
import { announce, button, h, pieces, rightward, style, t } from "./dom.js";
import "./icons.js";
import "./strings.photo.js";

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Fraction of a side by which an arrow key moves the crop; also its minimum size. */
const STEP = 0.02;
/** Pixels around a corner of the crop within which a drag moves that corner. */
const CORNER = 24;
/** Pixels of the preview's longer side. */
const PREVIEW_SIZE = 2048;
const MAX_ZOOM = 12;

/** `onCrop` gets the chosen box; `onSwipe` 1 for the next image, -1 for the previous one; `onDismiss`
 * follows a swipe down. */
export function createStage({ onCrop, onSwipe = () => null, onDismiss = () => null }) {
  let source = { width: 1, height: 1 }, view = { scale: 1, x: 0, y: 0 }, box = null, outlined = null;
  let filling = true; // small photos are enlarged to the screen
  const image = h("img", { alt: "", draggable: "false" });
  image.setAttribute("draggable", "false");
  const crop = h("div", { class: "crop", hidden: true });
  const frame = h("div", { class: "outline", hidden: true });
  const searchButton = h("button", { type: "button", class: "solid", onclick: () => onCrop(box.map((value) => value.toFixed(3))) }, t("photo.search_part"));
  const cropbar = h("div", { class: "cropbar", hidden: true },
    h("span", { class: "hint" }, ...pieces("photo.drag", { keys: h("span", { class: "keys" }, t("photo.drag_keys")) })), searchButton);
  const node = h("div", { class: "stage" }, image, frame, crop, cropbar);
  const tools = [button("minus", t("photo.zoom_out"), () => zoom(1 / 1.5)), button("plus", t("photo.zoom_in"), () => zoom(1.5))];

  /** Shows `src` at once, `preview` when it is loaded, and `original` when the zoom exceeds the preview. */
  function show(next) {
    source = next;
    outline(null);
    image.src = next.src;
    image.alt = next.alt;
    style(node, { "--tint": next.color ?? "#222" });
    if (next.preview) replace(next.preview);
    resetZoom();
  }

  function replace(src) {
    const now = source, loading = new Image();
    loading.src = src;
    loading.decode().then(() => source === now && (image.src = src), () => null);
  }

  // -- position: fitted into the stage, then scaled and moved about the centre

  function fitted() {
    const { clientWidth: w, clientHeight: hh } = node, ratio = source.width / source.height || 1;
    const width = Math.min(w, hh * ratio, filling ? Infinity : Math.max(source.width, 320)), height = width / ratio;
    return { left: (w - width) / 2, top: (hh - height) / 2, width, height };
  }

  function visible() {
    const { left, top, width, height } = fitted(), { scale, x, y } = view;
    return { left: left + x - width * (scale - 1) / 2, top: top + y - height * (scale - 1) / 2, width: width * scale, height: height * scale };
  }

  const placed = ([left, top, right, bottom], { left: x, top: y, width, height }) => ({ left: `${x + left * width}px`,
    top: `${y + top * height}px`, width: `${(right - left) * width}px`, height: `${(bottom - top) * height}px` });

  /** Outlines a part of the image; null removes the outline. */
  function outline(part) {
    outlined = part;
    frame.hidden = !part;
    layout();
  }

  function layout() {
    const { left, top, width, height } = fitted(), { scale, x, y } = view, zoomed = visible();
    style(image, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px`,
      transform: `translate(${x}px, ${y}px) scale(${scale})` });
    node.classList.toggle("zoomed", scale > 1);
    if (box) style(crop, placed(box, zoomed));
    if (outlined) style(frame, placed(outlined, zoomed));
  }

  function resetZoom() {
    view = { scale: 1, x: 0, y: 0 };
    layout();
  }

  function panTo(x, y) {
    const { width, height } = fitted(), { scale } = view;
    const maxX = Math.max(0, (width * scale - node.clientWidth) / 2), maxY = Math.max(0, (height * scale - node.clientHeight) / 2);
    view.x = clamp(x, -maxX, maxX);
    view.y = clamp(y, -maxY, maxY);
    layout();
  }

  /** Multiplies the zoom and keeps the point (px, py) in place; without one the centre. */
  function zoom(factor, px, py) {
    const scale = clamp(view.scale * factor, 1, MAX_ZOOM), by = scale / view.scale;
    const cx = (px ?? node.clientWidth / 2) - node.clientWidth / 2, cy = (py ?? node.clientHeight / 2) - node.clientHeight / 2;
    const { x, y } = view;
    view.scale = scale;
    panTo(cx - (cx - x) * by, cy - (cy - y) * by);
    const { original, width } = source;
    if (scale > 2 && original && width > PREVIEW_SIZE && !image.src.endsWith(original)) replace(original);
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
    if (view.scale > 1) resetZoom();
    else zoom(Math.max(2, source.width / fitted().width), ...local(event));
  });

  const pointers = new Map();
  let drag = null;

  /** Pixels between two pointers. */
  function distance() {
    const [[x, y], [ox, oy] = [x, y]] = [...pointers.values()];
    return Math.hypot(x - ox, y - oy) || 1;
  }

  /** The fixed corner of a drag: the one opposite to the grabbed corner, if any. */
  function anchor([x, y]) {
    const { left, top, width, height } = visible();
    const xs = [left + box[0] * width, left + box[2] * width], ys = [top + box[1] * height, top + box[3] * height];
    const [i, j] = [xs.findIndex((at) => Math.abs(at - x) < CORNER), ys.findIndex((at) => Math.abs(at - y) < CORNER)];
    return i < 0 || j < 0 ? [x, y] : [xs[1 - i], ys[1 - j]];
  }

  node.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button,.cropbar")) return;
    pointers.set(event.pointerId, local(event));
    const from = local(event);
    if (drag && box) box = drag.box; // a second finger means zoom: undo what the first one drew
    drag = { from: box ? anchor(from) : from, view: { ...view }, box, pinched: pointers.size > 1, distance: distance() };
    node.setPointerCapture(event.pointerId);
  });
  node.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, local(event));
    const [[x, y], other] = [...pointers.values()], [fromX, fromY] = drag.from;
    if (other) {
      zoom(distance() / drag.distance, (x + other[0]) / 2, (y + other[1]) / 2);
      drag.distance = distance();
    } else if (drag.pinched) return;
    else if (box) {
      const { left, top, width, height } = visible();
      const fraction = (value, from, size) => clamp((value - from) / size, 0, 1);
      const [ax, bx] = [fraction(fromX, left, width), fraction(x, left, width)], [ay, by] = [fraction(fromY, top, height), fraction(y, top, height)];
      box = [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
      layout();
    } else if (view.scale > 1) panTo(drag.view.x + x - fromX, drag.view.y + y - fromY);
    else if (event.pointerType === "touch") style(image, { translate: `0 ${Math.max(0, y - fromY - Math.abs(x - fromX))}px` });
  });
  for (const name of ["pointerup", "pointercancel"]) node.addEventListener(name, (event) => {
    if (!pointers.delete(event.pointerId) || pointers.size) return;
    const [x, y] = local(event), sideways = x - drag.from[0], down = y - drag.from[1];
    const swiped = event.pointerType === "touch" && view.scale === 1 && !drag.pinched;
    style(image, { translate: "none" });
    if (box) {
      // A tap draws no box.
      if (box[2] - box[0] < STEP || box[3] - box[1] < STEP) box = drag.box;
      layout();
      searchButton.focus();
    } else if (swiped && Math.abs(sideways) > 50 && Math.abs(sideways) > 2 * Math.abs(down)) onSwipe(sideways < 0 ? rightward : -rightward);
    else if (swiped && down > 90 && down > 2 * Math.abs(sideways)) onDismiss();
    drag = null;
  });
  new ResizeObserver(resetZoom).observe(node);

  // -- crop

  /** Shows a crop, by default the centre of the visible part, or hides it. Returns whether the crop bar
   * had the focus. */
  function setCropping(on, initial = null) {
    const focused = cropbar.contains(document.activeElement);
    box = on ? initial ?? centre() : null;
    crop.hidden = cropbar.hidden = !on;
    layout();
    if (on) {
      searchButton.focus();
      announce(t("photo.drag_help"));
    }
    return focused;
  }

  function centre() {
    const { left, top, width, height } = visible(), { clientWidth: w, clientHeight: hh } = node;
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
    layout();
  }

  /** Handles a key; returns whether the stage uses it. */
  function key(event) {
    const arrow = event.key.startsWith("Arrow");
    if (box && arrow) nudge(event);
    else if (view.scale > 1 && event.shiftKey && arrow) {
      const step = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] }[event.key];
      panTo(view.x + step[0], view.y + step[1]);
    } else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") resetZoom();
    else return false;
    return true;
  }

  /** Enlarges small photos to the screen, or shows them in their own size; returns which. */
  function toggleFill() {
    filling = !filling;
    resetZoom();
    return filling;
  }

  return { node, tools, cropbar, show, toggleFill,
    /** Whether the photo has fewer pixels than the stage, so that `toggleFill` has an effect. */
    isSmall: () => source.width > 0 && source.width < Math.min(node.clientWidth, (node.clientHeight * source.width) / source.height),
    setCropping, outline, key, clear: () => (outline(null), image.src = "data:,"), get cropping() { return !!box; } };
}
