// The parts of a query as chips below the box, its pictures in the box too: each can be weighted,
// turned round and taken out. Loaded with the first query that has parts.
import { $, ask, button, h, icon, style } from "./dom.js";
import { change, picture, split } from "./query.js";
import { serialise } from "./terms.js";
import "./icons.js";

const WEIGHTS = [0.25, 0.5, 1, 1.5, 2, 3];

const known = new Map();

/** Where the thumbnail of one of the library's pictures is; null when it has gone. */
function thumbnailOf(id) {
  if (!known.has(id)) known.set(id, ask(`/api/images/${id}`).then(({ v }) => `/thumbnails/${id}?w=256&v=${v}`, () => null));
  return known.get(id);
}

/** A picture of the query, square; of a part of one, that part. */
async function thumbnail(kind, ref, size) {
  const [id, box] = ref.split("@");
  const src = await (kind === "like" ? thumbnailOf(id) : import("./pictures.js").then(({ urlOf }) => urlOf(id)));
  if (!src) return icon("picture");
  const image = h("img", { src, alt: "", width: size, height: size, onerror: () => image.replaceWith(icon("picture")) });
  if (!box) return image;
  const [x0, y0, x1, y1] = box.split(",").map(Number);
  image.onload = () => {
    const { naturalWidth: w, naturalHeight: hh } = image, scale = size / Math.min((x1 - x0) * w, (y1 - y0) * hh);
    style(image, { width: `${w * scale}px`, height: `${hh * scale}px`,
      left: `${size / 2 - (x0 + x1) / 2 * w * scale}px`, top: `${size / 2 - (y0 + y1) / 2 * hh * scale}px` });
  };
  const cut = h("span", { class: "cut" }, image);
  style(cut, { width: `${size}px`, height: `${size}px` });
  return cut;
}

export function createChips({ go, query, focus }) {
  let parsing;

  async function drawPictures() {
    const { pictures } = split(query());
    const drawn = await Promise.all(pictures.map(async (token) => {
      const { kind, ref, weight } = picture(token);
      return h("button", {
        type: "button", class: `thumb${weight < 0 ? " less" : ""}`, "aria-label": "Take this picture out of the search",
        title: "Take this picture out", onclick: () => go(change(query(), (other) => other === token)),
      }, await thumbnail(kind, ref, 30));
    }));
    if (pictures.join() === split(query()).pictures.join()) $("thumbs").replaceChildren(...drawn);
  }

  async function draw() {
    drawPictures();
    parsing?.abort();
    parsing = new AbortController();
    const asked = query();
    const parsed = await ask(`/api/parse?q=${encodeURIComponent(asked)}`, { signal: parsing.signal }).catch(() => null);
    if (!parsed || asked !== query()) return;
    const { terms, filters } = parsed;
    const alone = terms.length === 1 && terms[0].kind === "text" && terms[0].weight === 1;
    const edit = (list, at, part) => go(serialise({ ...parsed, [list]: parsed[list].toSpliced(at, 1, ...part) }));
    const chips = await Promise.all([
      ...(alone && !filters.length ? [] : terms).map((term, i) => termChip(term, (...part) => edit("terms", i, part))),
      ...filters.map((filter, i) => filterChip(filter, (...part) => edit("filters", i, part))),
    ]);
    if (asked !== query()) return;
    if (terms.filter((term) => term.weight > 0).length > 1) {
      const all = parsed.combine === "all";
      chips.push(h("button", {
        type: "button", class: "pill", "aria-pressed": String(all), title: "Every part must fit, not only their sum",
        onclick: () => go(serialise({ ...parsed, combine: all ? "sum" : "all" })),
      }, "Must match all"));
    }
    // A chip that was just used keeps the focus although it was made anew.
    const place = $("chips"), within = () => [...place.querySelectorAll("button,select")];
    const held = within().indexOf(document.activeElement);
    place.replaceChildren(...chips);
    place.hidden = !chips.length;
    if (held >= 0) (within().at(Math.min(held, within().length - 1)) ?? { focus }).focus();
  }

  const sign = (less, plus, minus, onclick) => button(less ? "minus" : "plus", less ? minus : plus, onclick, {
    class: "quiet sign", "aria-pressed": String(less),
  });

  async function termChip(term, put) {
    const { kind, text, id, token, box, weight } = term;
    const size = Math.abs(weight);
    const name = kind === "text" ? text : box ? "part of a picture" : "picture";
    const body = kind === "text" ? h("span", { class: "words" }, text) : h("button", {
      type: "button", class: "words", "aria-label": box ? "Choose another part of this picture" : "Choose a part of this picture", title: "Search with a part of it",
      onclick: async () => (await import("./part.js")).choosePart(term, (part) => put({ ...term, box: part })),
    }, await thumbnail(kind, `${kind === "like" ? id : token}${box ? `@${box}` : ""}`, 26), icon("crop"));
    const weights = [...new Set([...WEIGHTS, size])].sort((a, b) => a - b);
    return h("div", { class: `chip${weight < 0 ? " less" : ""}`, role: "group", "aria-label": name },
      sign(weight < 0, `Wanted: ${name}. Press for less of it`, `Not wanted: ${name}. Press for more of it`,
        () => put({ ...term, weight: -weight })),
      body,
      h("select", {
        "aria-label": `How much ${name} counts`, title: "How much it counts",
        onchange: (event) => put({ ...term, weight: Math.sign(weight) * Number(event.target.value) }),
      }, ...weights.map((value) => h("option", { value, selected: value === size }, `×${value}`))),
      button("close", `Remove ${name}`, () => put()));
  }

  function filterChip(filter, put) {
    const { name, value, negated } = filter, label = `${name}: ${value}`;
    return h("div", { class: `chip filter${negated ? " less" : ""}`, role: "group", "aria-label": label },
      sign(negated, `Only ${label}. Press to turn round`, `Without ${label}. Press to turn round`,
        () => put({ ...filter, negated: !negated })),
      h("span", { class: "words" }, h("b", {}, name), ` ${value}`),
      button("close", `Remove ${label}`, () => put()));
  }

  return { draw };
}
