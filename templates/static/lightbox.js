// One picture, looked at closely: zoom and pan, what is known of it, and search with a part of it.
// Loaded when a picture is first pointed at.
import { announce, ask, button, date, h, icon, number, style } from "./dom.js";
import { bytes, copy } from "./tools.js";
import "./icons.js";

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const wide = matchMedia("(min-width: 800px)");

export function createLightbox({ grid, onMove, onClosed, onQuery, onChoose, isChosen }) {
  let hit = null, at = -1, view = { scale: 1, x: 0, y: 0 }, box = null, controller;
  const picture = h("img", { alt: "", draggable: "false" });
  picture.setAttribute("draggable", "false");
  const crop = h("div", { class: "crop", hidden: true });
  const place = h("span", { class: "place" });
  const tools = {
    out: button("minus", "Zoom out (−)", () => zoom(1 / 1.5)),
    in: button("plus", "Zoom in (+)", () => zoom(1.5)),
    crop: button("crop", "Search with a part (c)", () => cropping(!box), { "aria-pressed": "false" }),
    choose: button("check", "Choose (x)", choose, { "aria-pressed": "false" }),
    info: button("info", "Details (i)", () => showDetails(details.hidden), { "aria-pressed": "false" }),
  };
  const previous = button("left", "Previous picture", () => move(-1), { class: "quiet turn" });
  const following = button("right", "Next picture", () => move(1), { class: "quiet turn next" });
  const cropbar = h("div", { class: "cropbar", hidden: true }, h("span", {}, "Drag a box", h("span", { class: "keys" }, ", or use the arrow keys (Shift: size)")),
    h("button", { type: "button", class: "solid", onclick: searchPart }, "Search with this part"));
  const stage = h("div", { class: "stage" }, picture, crop, previous, following, cropbar,
    h("div", { class: "over" }, button("close", "Close (Esc)", () => close()), place, h("span", { class: "gap" }), ...Object.values(tools)));
  const details = h("aside", { class: "details", "aria-label": "Details", hidden: !wide.matches });
  const dialog = h("dialog", { class: "lightbox", "aria-label": "Picture" }, stage, details);
  document.body.append(dialog);
  tools.info.setAttribute("aria-pressed", String(!details.hidden));

  function open(next, index) {
    [hit, at] = [next, index];
    controller?.abort();
    controller = new AbortController();
    const { id, name, v, color } = hit;
    const thumbnail = `/thumbnails/${id}${v ? `?v=${v}` : ""}`;
    picture.src = thumbnail;
    picture.alt = name;
    const better = new Image();
    better.src = `/images/${id}?size=2048`;
    better.decode().then(() => hit.id === id && (picture.src = better.src), () => null);
    style(stage, { "--tint": color ?? "#222" });
    place.textContent = at < 0 ? "" : grid.place(at);
    previous.hidden = at <= 0;
    following.hidden = at < 0 || !grid.item(at + 1);
    cropping(false);
    fit();
    paint();
    if (!dialog.open) dialog.showModal();
    announce(`${name}${at < 0 ? "" : `, ${place.textContent}`}`);
    describe(controller.signal);
    const ahead = grid.item(at + 1);
    if (at >= 0 && ahead) new Image().src = `/images/${ahead.id}?size=2048`;
  }

  const paint = () => tools.choose.setAttribute("aria-pressed", String(isChosen(hit.id)));

  function choose() {
    onChoose(hit);
    paint();
  }

  function move(step) {
    const next = grid.item(at + step);
    if (at < 0 || !next) return;
    onMove(next, at + step);
    open(next, at + step);
  }

  function close() {
    dialog.close();
  }
  dialog.addEventListener("close", () => {
    controller?.abort();
    picture.src = "data:,";
    onClosed(hit, at);
  });

  // -- where the picture is: fitted into the stage, then scaled and moved

  function frame() {
    const { clientWidth: w, clientHeight: hh } = stage, ratio = hit.width / hit.height || 1;
    const width = Math.min(w, hh * ratio, Math.max(hit.width, 320)), height = width / ratio;
    return { left: (w - width) / 2, top: (hh - height) / 2, width, height };
  }

  function place_picture() {
    const { left, top, width, height } = frame(), { scale, x, y } = view;
    style(picture, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px`,
      transform: `translate(${x}px, ${y}px) scale(${scale})` });
    stage.classList.toggle("zoomed", scale > 1);
    if (box) style(crop, { left: `${left + box[0] * width}px`, top: `${top + box[1] * height}px`,
      width: `${(box[2] - box[0]) * width}px`, height: `${(box[3] - box[1]) * height}px` });
  }

  function fit() {
    view = { scale: 1, x: 0, y: 0 };
    place_picture();
  }

  function shift(x, y) {
    const { width, height } = frame(), { scale } = view;
    const roomX = Math.max(0, (width * scale - stage.clientWidth) / 2), roomY = Math.max(0, (height * scale - stage.clientHeight) / 2);
    view.x = clamp(x, -roomX, roomX);
    view.y = clamp(y, -roomY, roomY);
    place_picture();
  }

  /** By a factor, keeping the point under (px, py) where it is; the middle without one. */
  function zoom(factor, px, py) {
    const scale = clamp(view.scale * factor, 1, 12), by = scale / view.scale;
    const cx = (px ?? stage.clientWidth / 2) - stage.clientWidth / 2, cy = (py ?? stage.clientHeight / 2) - stage.clientHeight / 2;
    const { x, y } = view;
    view.scale = scale;
    shift(cx - (cx - x) * by, cy - (cy - y) * by);
    // Beyond what the preview holds, the original's own pixels.
    const own = `/images/${hit.id}`;
    if (scale > 2 && hit.width > 2048 && !picture.src.endsWith(own)) {
      const id = hit.id, full = new Image();
      full.src = own;
      full.decode().then(() => hit.id === id && (picture.src = own), () => null);
    }
  }

  const local = (event) => {
    const { left, top } = stage.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0022)), ...local(event));
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => {
    if (event.target.closest("button") || box) return;
    if (view.scale > 1) fit();
    else zoom(Math.max(2, hit.width / frame().width), ...local(event));
  });

  const fingers = new Map();
  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button,.cropbar")) return;
    fingers.set(event.pointerId, local(event));
    drag = { from: local(event), view: { ...view }, spread: 0 };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, local(event));
    const [[x, y], other] = [...fingers.values()], [fromX, fromY] = drag.from;
    if (other) {
      const spread = Math.hypot(x - other[0], y - other[1]);
      if (drag.spread) zoom(spread / drag.spread, (x + other[0]) / 2, (y + other[1]) / 2);
      Object.assign(drag, { spread, pinched: true });
    } else if (box) {
      const { left, top, width, height } = frame();
      const part = (value, start, size) => clamp((value - start) / size, 0, 1);
      const [ax, bx] = [part(fromX, left, width), part(x, left, width)], [ay, by] = [part(fromY, top, height), part(y, top, height)];
      box = [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
      place_picture();
    } else if (view.scale > 1 && !drag.pinched) shift(drag.view.x + x - fromX, drag.view.y + y - fromY);
  });
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => {
    if (!fingers.delete(event.pointerId) || fingers.size) return;
    const [x, y] = local(event), sideways = x - drag.from[0];
    if (event.pointerType === "touch" && view.scale === 1 && !box && !drag.pinched && Math.abs(sideways) > 50
      && Math.abs(sideways) > 2 * Math.abs(y - drag.from[1])) move(sideways < 0 ? 1 : -1);
    drag = null;
  });
  new ResizeObserver(() => hit && fit()).observe(stage);

  // -- search with a part

  function cropping(on) {
    if (on) fit();
    box = on ? [0.25, 0.25, 0.75, 0.75] : null;
    crop.hidden = cropbar.hidden = !on;
    tools.crop.setAttribute("aria-pressed", String(on));
    place_picture();
  }

  function searchPart() {
    const [x0, y0, x1, y1] = box;
    if (x1 - x0 < 0.01 || y1 - y0 < 0.01) return announce("The box is too small");
    onQuery(`like:${hit.id}@${box.map((value) => value.toFixed(3)).join(",")}`);
  }

  function nudge(event) {
    const step = 0.02, [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    const [x0, y0, x1, y1] = box;
    if (event.shiftKey) box = [x0, y0, clamp(x1 + dx, x0 + step, 1), clamp(y1 + dy, y0 + step, 1)];
    else {
      const mx = clamp(dx, -x0, 1 - x1), my = clamp(dy, -y0, 1 - y1);
      box = [x0 + mx, y0 + my, x1 + mx, y1 + my];
    }
    place_picture();
  }

  dialog.addEventListener("keydown", (event) => {
    const { key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
    const inDetails = details.contains(event.target);
    if (box && key === "Escape") cropping(false);
    else if (box && key.startsWith("Arrow")) nudge(event);
    else if (box && key === "Enter" && event.target !== tools.crop) searchPart();
    else if (view.scale > 1 && event.shiftKey && key.startsWith("Arrow")) {
      const step = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] }[key];
      shift(view.x + step[0], view.y + step[1]);
    } else if (key === "ArrowLeft" && !inDetails) move(-1);
    else if (key === "ArrowRight" && !inDetails) move(1);
    else if (key === "+" || key === "=") zoom(1.5);
    else if (key === "-") zoom(1 / 1.5);
    else if (key === "0") fit();
    else if (key === "c") cropping(!box);
    else if (key === "i") showDetails(details.hidden);
    else if (key === "x") choose();
    else if (key === "s") onQuery(`like:${hit.id}`);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // -- what is known of it

  function showDetails(on) {
    details.hidden = !on;
    tools.info.setAttribute("aria-pressed", String(on));
    if (on && !details.childElementCount) describe(controller.signal);
  }

  async function describe(signal) {
    details.replaceChildren();
    if (details.hidden) return;
    const { id } = hit;
    const quote = (value) => (/\s/.test(value) ? `"${value}"` : value);
    const link = (text, q) => h("a", { href: `/?q=${encodeURIComponent(q)}`, onclick: (event) => (event.preventDefault(), onQuery(q)) }, text);
    const all = await ask(`/api/images/${id}`, { signal }).catch(() => null);
    if (!all || hit.id !== id) return;
    const where = all.latitude != null && `${all.latitude.toFixed(5)}, ${all.longitude.toFixed(5)}`;
    const rows = [
      ["Taken", all.taken_at && link(date(all.taken_at, { dateStyle: "long", timeStyle: "short" }), `after:${all.taken_at.slice(0, 10)} before:${dayAfter(all.taken_at)}`)],
      ["Camera", all.camera && link(all.camera, `camera:${quote(all.camera)}`)],
      ["Lens", all.lens && link(all.lens, `lens:${quote(all.lens)}`)],
      ["Size", all.width > 0 && `${number(all.width)} × ${number(all.height)}, ${(all.width * all.height / 1e6).toFixed(1)} MP, ${bytes(all.size)} ${all.format.toUpperCase()}`],
      ["Found at", /^https?:/i.test(all.url ?? "") && h("a", { href: all.url, target: "_blank", rel: "noopener noreferrer" }, all.url)],
      ["Folder", all.folder && link(all.folder, `in:${quote(all.folder)}`)],
      ["Place", where && h("details", {}, h("summary", {}, where), h("a", {
        href: `https://www.openstreetmap.org/?mlat=${all.latitude}&mlon=${all.longitude}#map=15/${all.latitude}/${all.longitude}`,
        target: "_blank", rel: "noopener noreferrer",
      }, "Open in OpenStreetMap"), " ", link("Pictures near here", `near:${all.latitude},${all.longitude},5`))],
      ["Keywords", all.keywords?.length && all.keywords.join(", ")],
      ["Labels", all.labels?.length && h("span", {}, ...all.labels.flatMap(({ label }, i) => [i ? ", " : "", link(label, `label:${quote(label)}`)]))],
      ["Rating", all.rating && "★".repeat(all.rating)],
    ];
    const words = h("p", { class: "tags", hidden: true });
    const near = h("div", { class: "near", hidden: true });
    const act = (name, text, props) => h(props.href ? "a" : "button", { class: "pill", ...props }, icon(name), text);
    details.replaceChildren(
      h("h2", {}, all.title || all.name), all.caption ? h("p", {}, all.caption) : "",
      h("dl", {}, ...rows.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      words, choosing(id, signal),
      h("div", { class: "acts" },
        act("similar", "Similar", { type: "button", onclick: () => onQuery(`like:${id}`) }),
        act("open", "Open", { href: `/images/${id}`, target: "_blank" }),
        act("down", "Download", { href: `/images/${id}?download=1`, download: "" }),
        act("copy", "Copy path", { type: "button", onclick: () => copy(all.absolute ?? all.path, "Path copied") })),
      near);
    const [fitting, similar] = await Promise.all([
      ask(`/api/images/${id}?words=1`, { signal }).catch(() => ({})),
      ask(`/api/images/${id}/similar?k=12`, { signal }).catch(() => ({})),
    ]);
    if (hit.id !== id) return;
    words.replaceChildren(...(fitting.words ?? []).slice(0, 8).map(({ text }) => link(text, text)));
    words.hidden = !words.childElementCount;
    const hits = (similar.hits ?? []).filter((other) => other.id !== id).slice(0, 9);
    near.hidden = !hits.length;
    near.replaceChildren(h("h3", {}, "Similar"), ...hits.map((other) => h("button", {
      type: "button", "aria-label": other.name, onclick: () => (onMove(other, -1), open(other, grid.indexOf(other.id))),
    }, h("img", { src: `/thumbnails/${other.id}?w=256`, alt: "", loading: "lazy" }))));
  }

  /** A person's own texts, ranked by how well they fit this picture. */
  function choosing(id, signal) {
    const ranked = h("ol", {});
    const texts = h("input", { type: "text", maxLength: 4000, "aria-label": "Which of these fits best?", placeholder: "Which fits? a cat, a dog, …", autocomplete: "off" });
    return h("form", { class: "choose", async onsubmit(event) {
      event.preventDefault();
      if (!texts.value.trim()) return ranked.replaceChildren();
      try {
        const { captions } = await ask(`/api/images/${id}/captions?texts=${encodeURIComponent(texts.value)}`, { signal });
        ranked.replaceChildren(...captions.map(({ text, probability }) => h("li", {}, h("span", {}, text), h("span", {}, `${Math.round(probability * 100)} %`))));
        announce(captions.map(({ text, probability }) => `${text}: ${Math.round(probability * 100)} %`).join(", "));
      } catch (error) {
        if (error.name !== "AbortError") ranked.replaceChildren(h("li", {}, error.message));
      }
    } }, texts, ranked);
  }

  const dayAfter = (text) => new Date(Date.parse(`${text.slice(0, 10)}T00:00Z`) + 864e5).toISOString().slice(0, 10);

  return { open, close, get shown() { return dialog.open ? hit : null; } };
}
