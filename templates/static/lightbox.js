// One image at full size, with its details, captions, similar images, and search with a part of it.
// Loaded when the pointer or the focus first reaches a result.
import { announce, ask, button, date, h, icon, load, loadStyles, number, plural, toast } from "./dom.js";
import { createStage } from "./stage.js";
import { bytes, copy } from "./tools.js";

const DATE_NOTES = { name: " (from the file name)", digitized: " (digitised)", modified: " (file date)" };
const wide = matchMedia("(min-width: 1000px)");
/** Thumbnails of a stack. */
const MAX_MEMBERS = 12;

/** `onFind(q, id)` searches and goes to a photo in the results. `keeps`: {favourite, isFavourite}, null
 * for a library that keeps nothing. */
export function createLightbox({ grid, onMove, onClosed, onQuery, onFind, onSelect, isSelected, keeps }) {
  let hit = null, at = -1, controller;
  const stage = createStage({ onCrop: (box) => onQuery(`like:${hit.id}@${box.join(",")}`), onSwipe: move, onDismiss: () => close() });
  const position = h("span", { class: "position" });
  const tools = {
    crop: button("crop", "Search with part of the photo (c)", () => setCropping(!stage.cropping), { "aria-pressed": "false" }),
    heart: keeps && button("heart", "Favourite (f)", favourite, { "aria-pressed": "false" }),
    collect: keeps && button("collection", "Add to collection", collect, { "aria-haspopup": "dialog" }),
    select: button("check", "Select (x)", select, { "aria-pressed": "false" }),
    fill: button("fit", "Fit to screen (z)", fill, { "aria-pressed": "true" }),
    play: button("play", "Slideshow (p)", () => play(), { "aria-pressed": "false" }),
    info: button("info", "Details (i)", () => showDetails(details.hidden), { "aria-pressed": "false" }),
  };
  const previous = button("left", "Previous photo", () => move(-1), { class: "quiet step" });
  const following = button("right", "Next photo", () => move(1), { class: "quiet step next" });
  stage.cropbar.before(previous, following);
  stage.node.append(h("div", { class: "over" }, button("close", "Close (Esc)", () => close()), position, h("span", { class: "gap" }), ...stage.tools, ...Object.values(tools).filter(Boolean)));
  const details = h("aside", { class: "details", "aria-label": "Details", hidden: !wide.matches });
  const dialog = h("dialog", { class: "lightbox", "aria-label": "Photo", tabindex: -1 }, stage.node, details);
  document.body.append(dialog);
  tools.info.setAttribute("aria-pressed", String(!details.hidden));

  function open(next, index) {
    [hit, at] = [next, index];
    controller?.abort();
    controller = new AbortController();
    const { id, name, v, color, width, height } = hit;
    place(index);
    setCropping(false);
    stage.show({ src: `thumbnails/${id}${v ? `?v=${v}` : ""}`, preview: `images/${id}?size=2048`, original: `images/${id}`, alt: name, color, width, height });
    paint();
    if (!dialog.open) dialog.showModal();
    tools.fill.hidden = !stage.isSmall();
    slideshow?.moved();
    announce(`${name}${at < 0 ? "" : `, ${position.textContent}`}`);
    describe(controller.signal);
    const ahead = grid.item(at + 1);
    if (at >= 0 && ahead) new Image().src = `images/${ahead.id}?size=2048`;
  }

  /** Shows the rank of the open image; a photo from a link may get it after it is opened. */
  function place(index) {
    at = index;
    position.textContent = at < 0 ? "" : grid.position(at);
    const focused = document.activeElement;
    previous.hidden = at <= 0;
    following.hidden = at < 0 || !grid.item(at + 1);
    // Focus on a hidden element is lost, and with it every key.
    if (focused.hidden) dialog.focus();
  }

  const press = (name, on) => tools[name]?.setAttribute("aria-pressed", String(on));
  function paint() {
    press("select", isSelected(hit.id));
    press("heart", keeps?.isFavourite(hit.id));
  }

  async function favourite() {
    if (!keeps) return;
    await keeps.favourite([hit.id]);
    paint();
  }

  async function collect() {
    const { id } = hit;
    await (await load("kept.js")).collectionMenu(tools.collect, () => [id]);
  }

  function fill() {
    press("fill", stage.toggleFill());
  }

  let slideshow = null;
  async function play() {
    if (!slideshow) {
      const { createSlideshow } = await load("slideshow.js");
      slideshow = createSlideshow({
        node: stage.node,
        next: () => move(1),
        onChange(running) {
          press("play", running);
          stage.node.classList.toggle("playing", running);
          if (running) stage.node.focus();
          announce(running ? "Slideshow" : "Slideshow stopped");
        },
      });
    }
    stage.node.tabIndex = -1;
    slideshow.toggle();
  }

  function select() {
    onSelect(hit);
    paint();
  }

  function setCropping(on) {
    // Hiding the focused crop bar would take the keys away from the dialog.
    if (stage.setCropping(on) && !on) tools.crop.focus();
    tools.crop.setAttribute("aria-pressed", String(on));
  }

  function move(step) {
    const now = grid.indexOf(hit.id); // earlier results may have been added
    if (now >= 0) at = now;
    const next = grid.item(at + step);
    if (at < 0 || !next) return false;
    onMove(next, at + step);
    open(next, at + step);
    return true;
  }

  function close() {
    dialog.close();
  }
  dialog.addEventListener("close", () => {
    slideshow?.stop();
    controller?.abort();
    stage.clear();
    onClosed(hit, at);
  });

  dialog.addEventListener("keydown", (event) => {
    const { key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
    const inDetails = details.contains(event.target);
    if (stage.cropping && key === "Escape") setCropping(false);
    else if (stage.key(event));
    else if (key === "ArrowLeft" && !inDetails) move(-1);
    else if (key === "ArrowRight" && !inDetails) move(1);
    else if (key === "c") setCropping(!stage.cropping);
    else if (key === "i") showDetails(details.hidden);
    else if (key === "x") select();
    else if (key === "f") favourite();
    else if (key === "p") play();
    else if (key === " " && slideshow?.running) slideshow.stop();
    else if (key === "z" && !tools.fill.hidden) fill();
    else if (key === "s") onQuery(`like:${hit.id}`);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // -- details

  function showDetails(on) {
    if (details.contains(document.activeElement)) tools.info.focus();
    details.hidden = !on;
    tools.info.setAttribute("aria-pressed", String(on));
    if (on && !details.childElementCount) describe(controller.signal);
  }

  async function describe(signal) {
    if (details.contains(document.activeElement)) dialog.focus();
    details.replaceChildren();
    if (details.hidden) return;
    const { id } = hit;
    const quote = (value) => (/\s/.test(value) ? `"${value}"` : value);
    const link = (text, q) => h("a", { href: `./?q=${encodeURIComponent(q)}`, onclick: (event) => (event.preventDefault(), onQuery(q)) }, text);
    const all = await ask(`api/images/${id}`, { signal }).catch(() => null);
    if (!all || hit.id !== id) return;
    const at = all.latitude != null && `${all.latitude.toFixed(5)}, ${all.longitude.toFixed(5)}`;
    const town = all.location && [...new Set([all.location.city, all.location.country])].join(", ");
    const where = town || at;
    const rows = [
      ["Taken", all.taken_at && h("span", {}, link(date(all.taken_at, { dateStyle: "long", timeStyle: "short" }), `date:${all.taken_at.slice(0, 10)}`), DATE_NOTES[all.taken_from])],
      ["Camera", all.camera && link(all.camera, `camera:${quote(all.camera)}`)],
      ["Lens", all.lens && link(all.lens, `lens:${quote(all.lens)}`)],
      ["Size", all.width > 0 && `${number(all.width)} × ${number(all.height)}, ${(all.width * all.height / 1e6).toFixed(1)} MP, ${bytes(all.size)} ${all.format.toUpperCase()}`],
      ["Source", /^https?:/i.test(all.url ?? "") && h("a", { href: all.url, target: "_blank", rel: "noopener noreferrer" }, all.url)],
      ["Folder", all.folder && link(all.folder, `in:${quote(all.folder)}`)],
      ["Location", where && h("details", {}, h("summary", {}, where), town && h("div", {}, at, " ", link(`Photos in ${all.location.city}`, `place:${quote(all.location.city)} country:${all.location.country_code.toLowerCase()}`)), h("a", {
        href: `https://www.openstreetmap.org/?mlat=${all.latitude}&mlon=${all.longitude}#map=15/${all.latitude}/${all.longitude}`,
        target: "_blank", rel: "noopener noreferrer",
      }, "Open in OpenStreetMap"), " ", link("Photos nearby", `near:${all.latitude},${all.longitude},5`))],
      ["People", all.people?.length && h("span", {}, ...all.people.flatMap((name, i) => [i ? ", " : "", link(name, `person:${quote(name)}`)]))],
      ["Keywords", all.keywords?.length && all.keywords.join(", ")],
      ["Labels", all.labels?.length && h("span", {}, ...all.labels.flatMap(({ label }, i) => [i ? ", " : "", link(label, `label:${quote(label)}`)]))],
      ["In", all.collections?.length && h("span", {}, ...all.collections.flatMap(({ id: one, name }, i) => [i ? ", " : "", link(name, one === 1 ? "is:favourite" : `collection:${quote(name)}`)]))],
      ["Rating", all.rating && "★".repeat(all.rating)],
    ];
    const act = (name, text, props) => h(props.href ? "a" : "button", { class: "pill", ...props }, icon(name), text);
    const written = all.text?.length && h("details", { class: "written" }, h("summary", {}, "Text in the photo"),
      h("div", {}, ...all.text.map(({ text, box }) => h("p", { onpointerenter: () => stage.outline(box), onpointerleave: () => stage.outline(null) }, text))),
      act("copy", "Copy text", { type: "button", onclick: () => copy(all.text.map(({ text }) => text).join("\n"), "Text copied") }));
    const captions = h("p", { class: "tags", hidden: true });
    const near = h("div", { class: "near", hidden: true }), stack = h("div", { class: "near", hidden: true });
    details.replaceChildren(
      h("h2", {}, all.title || all.name), all.caption ? h("p", {}, all.caption) : "",
      h("dl", {}, ...rows.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      written || "", captions, captionForm(id, signal),
      h("div", { class: "acts" },
        act("similar", "Similar", { type: "button", onclick: () => onQuery(`like:${id}`) }),
        act("open", "Open", { href: `images/${id}`, target: "_blank" }),
        act("down", "Download", { href: `images/${id}?download=1`, download: "" }),
        all.folder && act("folder", "Show in folder", { type: "button", onclick: () => onFind(`in:${quote(all.folder)}`, id) }),
        all.taken_at && act("calendar", "That day", { type: "button", onclick: () => onFind(`date:${all.taken_at.slice(0, 10)}`, id) }),
        act("copy", "Copy path", { type: "button", onclick: () => copy(all.absolute ?? all.path, "Path copied") })),
      stack, near);
    const members = hit.duplicates ?? [];
    const [described, similar, ...stacked] = await Promise.all([
      ask(`api/images/${id}?words=1`, { signal }).catch(() => ({})),
      ask(`api/images/${id}/similar?k=12`, { signal }).catch(() => ({})),
      ...members.slice(0, MAX_MEMBERS).map((member) => ask(`api/images/${member}`, { signal }).catch(() => null)),
    ]);
    if (hit.id !== id) return;
    captions.replaceChildren(...(described.words ?? []).slice(0, 8).map(({ text }) => link(text, text)));
    captions.hidden = !captions.childElementCount;
    const hits = (similar.hits ?? []).filter((other) => other.id !== id).slice(0, 9);
    show(stack, plural(members.length, "near-identical photo"), stacked.filter(Boolean));
    show(near, "Similar", hits);
  }

  /** Thumbnails that open their photos. */
  function show(section, title, hits) {
    section.hidden = !hits.length;
    if (hits.length) section.replaceChildren(h("h3", {}, title), ...hits.map((other) => h("button", {
      type: "button", "aria-label": other.name, onclick: () => (onMove(other, -1), open(other, grid.indexOf(other.id))),
    }, h("img", { src: `thumbnails/${other.id}?w=256`, alt: "", loading: "lazy" }))));
  }

  /** A form that ranks the user's own captions by how well they fit the image. */
  function captionForm(id, signal) {
    const ranked = h("ol", {});
    const texts = h("input", { type: "text", maxLength: 4000, "aria-label": "Compare captions", placeholder: "Compare captions: a cat, a dog, …", autocomplete: "off" });
    return h("form", { class: "compare", async onsubmit(event) {
      event.preventDefault();
      if (!texts.value.trim()) return ranked.replaceChildren();
      try {
        const { captions } = await ask(`api/images/${id}/captions?texts=${encodeURIComponent(texts.value)}`, { signal });
        ranked.replaceChildren(...captions.map(({ text, probability }) => h("li", {}, h("span", {}, text), h("span", {}, `${Math.round(probability * 100)}%`))));
        announce(captions.map(({ text, probability }) => `${text}: ${Math.round(probability * 100)}%`).join(", "));
      } catch (error) {
        if (error.name !== "AbortError") ranked.replaceChildren(h("li", {}, error.message));
      }
    } }, texts, ranked);
  }

  return { open, close, place, get shown() { return dialog.open ? hit : null; } };
}
