// The terms and filters of a query as chips below the search box, its images in the box too: each can
// be weighted, negated and removed. Loaded with the first query that has parts.
import { $, ask, button, h, icon, load, style, t } from "./dom.js";
import { dateRangeName } from "./dates.js";
import { change, filterOf, imageTerm, isSetting, split, tokens, withDateRange } from "./query.js";
import { serialise } from "./terms.js";
import "./icons.js";
import "./strings.query.js";

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

/** The days of a date filter, from the server's "from 2012-01-01 to 2012-12-31". */
function taken(meaning) {
  const [first, last] = ["from", "to"].map((word) => meaning.match(`\\b${word} (\\S+)`)?.[1]);
  return t(!last ? "query.taken_from" : first ? "query.taken_from_to" : "query.taken_to", { first, last });
}

/** Whether the server reads the text as more than one plain term, or explains a date. */
const needsParsing = ({ images, filters, text }) =>
  images.length || tokens(text).some((token) => /^-|[":]/.test(token)) || filters.some((token) => /^-?(after|before|date):/.test(token));

export function createChips({ go, edit: editFilter, query, dates, focus }) {
  let parsing;

  async function drawImages() {
    const { images } = split(query());
    const buttons = await Promise.all(images.map(async (token) => {
      const { kind, ref, weight } = imageTerm(token);
      return h("button", {
        type: "button", class: `thumb${weight < 0 ? " less" : ""}`, "aria-label": t("query.remove_this_photo"),
        title: t("query.remove_photo"), onclick: () => go(change(query(), (other) => other === token)),
      }, await thumbnail(kind, ref, 30));
    }));
    if (images.join() === split(query()).images.join()) $("thumbs").replaceChildren(...buttons);
  }

  async function draw() {
    drawImages();
    parsing?.abort();
    const drawing = (parsing = new AbortController());
    const q = query();
    const parts = split(q);
    // An invalid filter is an error; its chip removes it.
    const parsed = needsParsing(parts) && await ask(`api/parse?q=${encodeURIComponent(q)}`, { signal: drawing.signal }).catch(() => null);
    if (drawing !== parsing) return;
    const terms = parsed ? parsed.terms : [];
    const wordsOnly = terms.length === 1 && terms[0].kind === "text" && terms[0].weight === 1;
    const edit = (at, part) => go(serialise({ ...parsed, terms: terms.toSpliced(at, 1, ...part) }));
    const chips = await Promise.all([
      ...(wordsOnly ? [] : terms).map((term, i) => termChip(term, (...part) => edit(i, part))),
      ...filterChips(parts.filters, parsed ? parsed.filters : []),
      ...dates().map(dateChip),
    ]);
    if (drawing !== parsing) return;
    const all = parsed?.combine === "all";
    if (all || terms.filter((term) => term.weight > 0).length > 1) {
      chips.push(h("button", {
        type: "button", class: "pill", "aria-pressed": String(all), title: t("query.match_all_hint"),
        onclick: () => go(serialise({ ...parsed, combine: all ? "sum" : "all" })),
      }, t("query.match_all")));
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
    const name = kind === "text" ? text : t(box ? "query.part" : "query.photo");
    const body = kind === "text" ? h("span", { class: "words" }, text) : h("button", {
      type: "button", class: "words", "aria-label": t(box ? "query.choose_other_part" : "query.choose_part"), title: t("query.search_part"),
      onclick: async () => (await load("crop_dialog.js", "stage.js", "strings.photo.js")).chooseCrop(term, (crop) => replace({ ...term, box: crop })),
    }, await thumbnail(kind, `${kind === "like" ? id : token}${box ? `@${box}` : ""}`, 26), icon("crop"));
    const weights = [...new Set([...WEIGHTS, size])].sort((a, b) => a - b);
    return h("div", { class: `chip${weight < 0 ? " less" : ""}`, role: "group", "aria-label": name },
      sign(weight < 0, t("query.less_like", { name }), () => replace({ ...term, weight: -weight })),
      body,
      h("select", {
        "aria-label": t("query.weight_of", { name }), title: t("query.weight"),
        onchange: (event) => replace({ ...term, weight: Math.sign(weight) * Number(event.target.value) }),
      }, ...weights.map((value) => h("option", { value, selected: value === size }, `×${value}`))),
      button("close", t("query.remove", { name }), () => replace()));
  }

  /** A chip for each filter; one for a range of dates. */
  function filterChips(all, parsed) {
    const found = all.map((token) => ({ token, ...filterOf(token) })).filter((filter) => !isSetting(filter));
    // The filters of dates in words follow.
    if (parsed.length >= found.length) found.forEach((filter, i) => (filter.meaning = parsed[i].meaning));
    const [after, before] = ["after", "before"].map((name) => found.filter((filter) => filter.name === name));
    const range = after.length === 1 && before.length === 1 && !after[0].negated && !before[0].negated
      && dateRangeName(after[0].value, before[0].value);
    const others = range ? found.filter((filter) => !["after", "before"].includes(filter.name)) : found;
    return [
      ...(range ? [rangeChip(range)] : []),
      ...others.map(filterChip),
    ];
  }

  function rangeChip(name) {
    return h("div", { class: "chip filter", role: "group", "aria-label": name },
      h("span", { class: "words" }, name),
      button("close", t("query.remove", { name }), () => go(withDateRange(query()))));
  }

  function filterChip({ token, name, value, negated, meaning }) {
    const label = `${name}: ${value}`;
    const replace = (...added) => go(change(query(), (other) => other === token, ...added));
    return h("div", { class: `chip filter${negated ? " less" : ""}`, role: "group", "aria-label": label, title: meaning && taken(meaning) },
      sign(negated, t("query.invert", { name: label }), () => replace(negated ? token.slice(1) : `-${token}`)),
      h("button", { type: "button", class: "words", title: t("query.edit"), "aria-label": t("query.edit_filter", { name: label }), onclick: () => editFilter(token) }, h("b", {}, name), ` ${value}`),
      button("close", t("query.remove", { name: label }), () => replace()));
  }

  /** A date in plain words; without it they are words. */
  function dateChip({ words, filter, other }) {
    return h("div", { class: "chip filter", role: "group", "aria-label": t("query.date", { words }) },
      h("span", { class: "words" }, words, h("b", {}, ` ${filter.replaceAll("date:", "")}`)),
      button("close", t("query.search_words", { words }), () => go(other)));
  }

  return { draw };
}
