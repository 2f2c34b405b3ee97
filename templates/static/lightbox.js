// One image at full size, with its details, captions, similar images, and search with a part of it.
// Loaded when the pointer or the focus first reaches a result.
import { announce, ask, button, date, h, icon, load, number, pieces, rightward, t } from "./dom.js";
import "./strings.actions.js";
import "./strings.photo.js";
import { createStage } from "./stage.js";
import { bytes, copy } from "./tools.js";

/** Where a date is from, if not from the camera -> the text of it. */
const TAKEN = { name: "photo.taken_from_name", digitized: "photo.taken_digitized", modified: "photo.taken_modified" };
const wide = matchMedia("(min-width: 1000px)");
const taken = (link, from) => (TAKEN[from] ? pieces(TAKEN[from], { date: link }) : [link]);
const percent = (fraction) => number(fraction, { style: "percent" });
/** Thumbnails of a stack. */
const MAX_MEMBERS = 12;

/** `onFind(q, id)` searches and goes to a photo in the results. `keeps`: {favourite, isFavourite}, null
 * for a library that keeps nothing. */
export function createLightbox({ grid, onMove, onClosed, onQuery, onFind, onSelect, isSelected, keeps }) {
  let hit = null, at = -1, controller;
  const stage = createStage({ onCrop: (box) => onQuery(`like:${hit.id}@${box.join(",")}`), onSwipe: move, onDismiss: () => close() });
  const position = h("span", { class: "position" });
  const tools = {
    crop: button("crop", t("photo.crop"), () => setCropping(!stage.cropping), { "aria-pressed": "false" }),
    heart: keeps && button("heart", t("actions.favourite"), favourite, { "aria-pressed": "false" }),
    collect: keeps && button("collection", t("photo.add_to_collection"), collect, { "aria-haspopup": "dialog" }),
    select: button("check", t("actions.select"), select, { "aria-pressed": "false" }),
    fill: button("fit", t("photo.fit"), fill, { "aria-pressed": "true" }),
    play: button("play", t("photo.slideshow"), () => play(), { "aria-pressed": "false" }),
    info: button("info", t("photo.details_key"), () => showDetails(details.hidden), { "aria-pressed": "false" }),
  };
  const previous = button("left", t("photo.previous"), () => move(-1), { class: "quiet step" });
  const following = button("right", t("photo.next"), () => move(1), { class: "quiet step next" });
  stage.cropbar.before(previous, following);
  stage.node.append(h("div", { class: "over" }, button("close", t("photo.close"), () => close()), position, h("span", { class: "gap" }), ...stage.tools, ...Object.values(tools).filter(Boolean)));
  const details = h("aside", { class: "details", "aria-label": t("photo.details"), hidden: !wide.matches });
  const dialog = h("dialog", { class: "lightbox", "aria-label": t("photo.photo"), tabindex: -1 }, stage.node, details);
  document.body.append(dialog);
  tools.info.setAttribute("aria-pressed", String(!details.hidden));

  function open(next, index) {
    [hit, at] = [next, index];
    controller?.abort();
    controller = new AbortController();
    const { id, v, color, width, height } = hit, name = hit.description || hit.name;
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
          announce(t(running ? "photo.slideshow_on" : "photo.slideshow_off"));
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
    else if (key === "ArrowLeft" && !inDetails) move(-rightward);
    else if (key === "ArrowRight" && !inDetails) move(rightward);
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
      [t("photo.taken"), all.taken_at && h("span", {}, ...taken(link(date(all.taken_at, { dateStyle: "long", timeStyle: "short" }), `date:${all.taken_at.slice(0, 10)}`), all.taken_from))],
      [t("photo.camera"), all.camera && link(all.camera, `camera:${quote(all.camera)}`)],
      [t("photo.lens"), all.lens && link(all.lens, `lens:${quote(all.lens)}`)],
      [t("photo.size"), all.width > 0 && t("photo.size_facts", {
        width: all.width, height: all.height, bytes: bytes(all.size), format: all.format.toUpperCase(),
        megapixels: number(all.width * all.height / 1e6, { minimumFractionDigits: 1, maximumFractionDigits: 1 }),
      })],
      [t("photo.source"), /^https?:/i.test(all.url ?? "") && h("a", { href: all.url, target: "_blank", rel: "noopener noreferrer" }, all.url)],
      [t("photo.folder"), all.folder && link(all.folder, `in:${quote(all.folder)}`)],
      [t("photo.location"), where && h("details", {}, h("summary", {}, where), town && h("div", {}, at, " ", link(t("photo.photos_in", { place: all.location.city }), `place:${quote(all.location.city)} country:${all.location.country_code.toLowerCase()}`)), h("a", {
        href: `https://www.openstreetmap.org/?mlat=${all.latitude}&mlon=${all.longitude}#map=15/${all.latitude}/${all.longitude}`,
        target: "_blank", rel: "noopener noreferrer",
      }, t("photo.open_map")), " ", link(t("photo.nearby"), `near:${all.latitude},${all.longitude},5`))],
      [t("photo.people"), all.people?.length && h("span", {}, ...all.people.flatMap((name, i) => [i ? ", " : "", link(name, `person:${quote(name)}`)]))],
      [t("photo.keywords"), all.keywords?.length && all.keywords.join(", ")],
      [t("photo.labels"), all.labels?.length && h("span", {}, ...all.labels.flatMap(({ label }, i) => [i ? ", " : "", link(label, `label:${quote(label)}`)]))],
      [t("photo.in"), all.collections?.length && h("span", {}, ...all.collections.flatMap(({ id: one, name }, i) => [i ? ", " : "", one === 1 ? link(t("photo.favourites"), "is:favourite") : link(name, `collection:${quote(name)}`)]))],
      [t("photo.rating"), all.rating && "★".repeat(all.rating)],
    ];
    const act = (name, text, props) => h(props.href ? "a" : "button", { class: "pill", ...props }, icon(name), text);
    const written = all.text?.length && h("details", { class: "written", open: !!hit.snippet }, h("summary", {}, t("photo.text")),
      h("div", {}, ...all.text.map(({ text, box }) => h("p", { onpointerenter: () => stage.outline(box), onpointerleave: () => stage.outline(null) }, text))),
      act("copy", t("photo.copy_text"), { type: "button", onclick: () => copy(all.text.map(({ text }) => text).join("\n"), t("photo.text_copied")) }));
    const captions = h("p", { class: "tags", hidden: true });
    const near = h("div", { class: "near", hidden: true }), stack = h("div", { class: "near", hidden: true });
    details.replaceChildren(
      h("h2", {}, all.title || all.name), all.caption ? h("p", {}, all.caption) : "",
      h("dl", {}, ...rows.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      written || "", captions, captionForm(id, signal),
      h("div", { class: "acts" },
        act("similar", t("photo.similar"), { type: "button", onclick: () => onQuery(`like:${id}`) }),
        act("open", t("photo.open"), { href: `images/${id}`, target: "_blank" }),
        act("down", t("photo.download"), { href: `images/${id}?download=1`, download: "" }),
        all.folder && act("folder", t("photo.show_in_folder"), { type: "button", onclick: () => onFind(`in:${quote(all.folder)}`, id) }),
        all.taken_at && act("calendar", t("photo.that_day"), { type: "button", onclick: () => onFind(`date:${all.taken_at.slice(0, 10)}`, id) }),
        act("copy", t("photo.copy_path"), { type: "button", onclick: () => copy(all.absolute ?? all.path, t("photo.path_copied")) })),
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
    show(stack, t("page.near_identical", { count: members.length }), stacked.filter(Boolean));
    show(near, t("photo.similar"), hits);
  }

  /** Thumbnails that open their photos. */
  function show(section, title, hits) {
    section.hidden = !hits.length;
    if (hits.length) section.replaceChildren(h("h3", {}, title), ...hits.map((other) => h("button", {
      type: "button", "aria-label": other.description || other.name, onclick: () => (onMove(other, -1), open(other, grid.indexOf(other.id))),
    }, h("img", { src: `thumbnails/${other.id}?w=256`, alt: "", loading: "lazy" }))));
  }

  /** A form that ranks the user's own captions by how well they fit the image. */
  function captionForm(id, signal) {
    const ranked = h("ol", {});
    const texts = h("input", { type: "text", maxLength: 4000, "aria-label": t("photo.compare"), placeholder: t("photo.compare_hint"), autocomplete: "off" });
    return h("form", { class: "compare", async onsubmit(event) {
      event.preventDefault();
      if (!texts.value.trim()) return ranked.replaceChildren();
      try {
        const { captions } = await ask(`api/images/${id}/captions?texts=${encodeURIComponent(texts.value)}`, { signal });
        ranked.replaceChildren(...captions.map(({ text, probability }) => h("li", {}, h("span", {}, text), h("span", {}, percent(probability)))));
        announce(captions.map(({ text, probability }) => `${text}: ${percent(probability)}`).join(", "));
      } catch (error) {
        if (error.name !== "AbortError") ranked.replaceChildren(h("li", {}, error.message));
      }
    } }, texts, ranked);
  }

  return { open, close, place, get shown() { return dialog.open ? hit : null; } };
}
