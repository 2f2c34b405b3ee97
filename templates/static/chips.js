// The terms and filters of a query as chips below the search box, its images in the box too: each can
// be weighted, negated and removed. Loaded with the first query that has parts.
import { $, ask, button, h, icon, load, style } from "./dom.js";
import { change, imageTerm, split } from "./query.js";
import { serialise } from "./terms.js";
import "./icons.js";

const WEIGHTS = [0.25, 0.5, 1, 1.5, 2, 3];

const thumbnailUrls = new Map();

/** The URL of an image's thumbnail; null for an image that is not in the library. */
function thumbnailUrl(id) {
  if (!thumbnailUrls.has(id)) thumbnailUrls.set(id, ask(`api/images/${id}`).then(({ v }) => `thumbnails/${id}?w=256&v=${v}`, () => null));
  return thumbnailUrls.get(id);
}

/** A square of `size` pixels that shows an image of the query, or its crop. */
async function thumbnail(kind, ref, size) {
  const [id, box] = ref.split("@");
  const src = await (kind === "like" ? thumbnailUrl(id) : load("uploads.js").then(({ urlOf }) => urlOf(id)));
  if (!src) return icon("image");
  const image = h("img", { src, alt: "", width: size, height: size, onerror: () => image.replaceWith(icon("image")) });
  if (!box) return image;
  const [x0, y0, x1, y1] = box.split(",").map(Number);
  image.onload = () => {
    const { naturalWidth: w, naturalHeight: hh } = image, scale = size / Math.min((x1 - x0) * w, (y1 - y0) * hh);
    style(image, { width: `${w * scale}px`, height: `${hh * scale}px`,
      left: `${size / 2 - (x0 + x1) / 2 * w * scale}px`, top: `${size / 2 - (y0 + y1) / 2 * hh * scale}px` });
  };
  const crop = h("span", { class: "cut" }, image);
  style(crop, { width: `${size}px`, height: `${size}px` });
  return crop;
}

export function createChips({ go, query, focus }) {
  let parsing;

  async function drawImages() {
    const { images } = split(query());
    const buttons = await Promise.all(images.map(async (token) => {
      const { kind, ref, weight } = imageTerm(token);
      return h("button", {
        type: "button", class: `thumb${weight < 0 ? " less" : ""}`, "aria-label": "Remove this photo from the search",
        title: "Remove photo", onclick: () => go(change(query(), (other) => other === token)),
      }, await thumbnail(kind, ref, 30));
    }));
    if (images.join() === split(query()).images.join()) $("thumbs").replaceChildren(...buttons);
  }

  async function draw() {
    drawImages();
    parsing?.abort();
    parsing = new AbortController();
    const q = query();
    const parsed = await ask(`api/parse?q=${encodeURIComponent(q)}`, { signal: parsing.signal }).catch(() => null);
    if (!parsed || q !== query()) return;
    const { terms, filters } = parsed;
    const wordsOnly = terms.length === 1 && terms[0].kind === "text" && terms[0].weight === 1 && !filters.length;
    const edit = (list, at, part) => go(serialise({ ...parsed, [list]: parsed[list].toSpliced(at, 1, ...part) }));
    const chips = await Promise.all([
      ...(wordsOnly ? [] : terms).map((term, i) => termChip(term, (...part) => edit("terms", i, part))),
      ...filters.map((filter, i) => filterChip(filter, (...part) => edit("filters", i, part))),
    ]);
    if (q !== query()) return;
    if (terms.filter((term) => term.weight > 0).length > 1) {
      const all = parsed.combine === "all";
      chips.push(h("button", {
        type: "button", class: "pill", "aria-pressed": String(all), title: "Rank by the weakest part instead of the sum",
        onclick: () => go(serialise({ ...parsed, combine: all ? "sum" : "all" })),
      }, "Match all parts"));
    }
    // The chips are new elements: the focus goes to the one in the same position.
    const bar = $("chips"), controls = () => [...bar.querySelectorAll("button,select")];
    const focused = controls().indexOf(document.activeElement);
    bar.replaceChildren(...chips);
    bar.hidden = !chips.length;
    if (focused >= 0) (controls().at(Math.min(focused, controls().length - 1)) ?? { focus }).focus();
  }

  const sign = (negated, label, onclick) => button(negated ? "minus" : "plus", label, onclick, { class: "quiet sign", "aria-pressed": String(negated) });

  async function termChip(term, replace) {
    const { kind, text, id, token, box, weight } = term;
    const size = Math.abs(weight);
    const name = kind === "text" ? text : box ? "part of a photo" : "photo";
    const body = kind === "text" ? h("span", { class: "words" }, text) : h("button", {
      type: "button", class: "words", "aria-label": box ? "Choose another part of this photo" : "Choose a part of this photo", title: "Search with part of this photo",
      onclick: async () => (await load("crop_dialog.js", "stage.js")).chooseCrop(term, (crop) => replace({ ...term, box: crop })),
    }, await thumbnail(kind, `${kind === "like" ? id : token}${box ? `@${box}` : ""}`, 26), icon("crop"));
    const weights = [...new Set([...WEIGHTS, size])].sort((a, b) => a - b);
    return h("div", { class: `chip${weight < 0 ? " less" : ""}`, role: "group", "aria-label": name },
      sign(weight < 0, `Less like this: ${name}`, () => replace({ ...term, weight: -weight })),
      body,
      h("select", {
        "aria-label": `Weight of ${name}`, title: "Weight",
        onchange: (event) => replace({ ...term, weight: Math.sign(weight) * Number(event.target.value) }),
      }, ...weights.map((value) => h("option", { value, selected: value === size }, `×${value}`))),
      button("close", `Remove ${name}`, () => replace()));
  }

  function filterChip(filter, replace) {
    const { name, value, negated, meaning } = filter, label = `${name}: ${value}`;
    return h("div", { class: `chip filter${negated ? " less" : ""}`, role: "group", "aria-label": label, title: meaning && `Taken ${meaning}` },
      sign(negated, `Invert ${label}`, () => replace({ ...filter, negated: !negated })),
      h("span", { class: "words" }, h("b", {}, name), ` ${value}`),
      button("close", `Remove ${label}`, () => replace()));
  }

  return { draw };
}
