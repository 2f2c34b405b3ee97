// The search box: what is typed, the pictures given, the chips below it, and suggestions.
import { $, ask, button, h, icon, later, toast } from "./dom.js";
import { change, join, picture, pictureToken, serialise, split, tokens, withPicture } from "./query.js";
import { upload, urlOf } from "./pictures.js";

const WEIGHTS = [0.25, 0.5, 1, 1.5, 2, 3];

export function createBox({ onQuery }) {
  const input = $("q"), form = input.form, menu = $("suggestions");
  let q = "", options = [], chosen = -1, parsing;
  let settled = false; // Enter was pressed: suggestions that arrive late would lie over the chips

  const words = () => join(split(q).pictures, input.value.trim());

  function refresh() {
    $("clear").hidden = !q;
    form.classList.toggle("filled", !!q);
  }

  /** Shows a query; `typed` leaves the words in the box as they are. */
  function show(text, { typed = false } = {}) {
    q = text;
    const parts = split(q);
    if (!typed && words() !== q) input.value = parts.text;
    refresh();
    drawPictures(parts.pictures);
    drawChips();
  }

  function go(text, how) {
    show(text, how);
    onQuery(q, how);
  }

  // -- pictures in the box, parts below it

  async function thumbnail(kind, ref, size) {
    const [id] = ref.split("@");
    const src = kind === "like" ? `/thumbnails/${id}?w=256` : await urlOf(id);
    return src ? h("img", { src, alt: "", width: size, height: size }) : icon("picture");
  }

  async function drawPictures(pictures) {
    const drawn = await Promise.all(pictures.map(async (token) => {
      const { kind, ref, weight } = picture(token);
      return h("button", {
        type: "button", class: `thumb${weight < 0 ? " less" : ""}`, "aria-label": "Take this picture out of the search",
        title: "Take this picture out", onclick: () => go(change(q, (other) => other === token)),
      }, await thumbnail(kind, ref, 30));
    }));
    if (pictures.join() === split(q).pictures.join()) $("thumbs").replaceChildren(...drawn);
  }

  async function drawChips() {
    parsing?.abort();
    parsing = new AbortController();
    const asked = q;
    let parsed = { terms: [], filters: [] };
    if (/[\s:"-]/.test(q.trim())) {
      parsed = await ask(`/api/parse?q=${encodeURIComponent(q)}`, { signal: parsing.signal }).catch(() => null);
      if (!parsed || asked !== q) return;
    }
    const { terms, filters } = parsed;
    const alone = terms.length === 1 && terms[0].kind === "text" && terms[0].weight === 1;
    const edit = (list, at, part) => go(serialise({ ...parsed, [list]: parsed[list].toSpliced(at, 1, ...part) }));
    const chips = await Promise.all([
      ...(alone && !filters.length ? [] : terms).map((term, i) => termChip(term, (...part) => edit("terms", i, part))),
      ...filters.map((filter, i) => filterChip(filter, (...part) => edit("filters", i, part))),
    ]);
    if (asked !== q) return;
    if (terms.filter((term) => term.weight > 0).length > 1) {
      const all = parsed.combine === "all";
      chips.push(h("button", {
        type: "button", class: "pill", "aria-pressed": String(all), title: "Every part must fit, not only their sum",
        onclick: () => go(serialise({ ...parsed, combine: all ? "sum" : "all" })),
      }, "Match all"));
    }
    // A chip that was just used keeps the focus although it was made anew.
    const held = [...$("chips").querySelectorAll("button,select")].indexOf(document.activeElement);
    $("chips").replaceChildren(...chips);
    $("chips").hidden = !chips.length;
    if (held >= 0) ($("chips").querySelectorAll("button,select")[held] ?? input).focus();
  }

  const sign = (less, plus, minus, onclick) => button(less ? "minus" : "plus", less ? minus : plus, onclick, {
    class: "quiet sign", "aria-pressed": String(less),
  });

  async function termChip(term, put) {
    const { kind, text, id, token, box, weight } = term;
    const size = Math.abs(weight);
    const name = kind === "text" ? text : box ? "part of a picture" : "picture";
    const body = kind === "text" ? h("span", { class: "words" }, text)
      : h("span", { class: "words" }, await thumbnail(kind, String(kind === "like" ? id : token), 26), box ? "part" : null);
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

  // -- suggestions for the word at the cursor

  const lastWord = () => {
    const before = input.value.slice(0, input.selectionStart);
    return before.endsWith(" ") ? "" : tokens(before).at(-1) ?? "";
  };

  const suggest = later(110, async () => {
    const word = lastWord();
    if (settled || document.activeElement !== input || word.replace(/^-/, "").length < 2) return closeMenu();
    const found = await ask(`/api/suggest?prefix=${encodeURIComponent(word)}`).catch(() => ({}));
    if (settled || lastWord() !== word || document.activeElement !== input) return;
    options = (found.suggestions ?? []).slice(0, 8);
    chosen = -1;
    menu.replaceChildren(...options.map((option, i) => h("li", {
      role: "option", id: `suggestion-${i}`, "aria-selected": "false",
      onpointerdown: (event) => (event.preventDefault(), take(i)),
    }, h("span", {}, option.text), h("small", {}, [option.kind, option.count?.toLocaleString("en")].filter(Boolean).join(" · ")))));
    menu.hidden = !options.length;
    input.setAttribute("aria-expanded", String(!menu.hidden));
  });

  function closeMenu() {
    menu.hidden = true;
    [options, chosen] = [[], -1];
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function point(step) {
    chosen = (chosen + step + options.length + 1 + (chosen < 0 && step < 0 ? 0 : 0)) % (options.length + 1);
    if (chosen === options.length) chosen = -1;
    [...menu.children].forEach((node, i) => node.setAttribute("aria-selected", String(i === chosen)));
    if (chosen < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `suggestion-${chosen}`);
  }

  function take(i) {
    const word = lastWord(), at = input.selectionStart, more = options[i].text.endsWith(":");
    const head = input.value.slice(0, at - word.length) + options[i].text + (more ? "" : " ");
    input.value = head + input.value.slice(at).trimStart();
    input.setSelectionRange(head.length, head.length);
    closeMenu();
    if (more) suggest();
    else go(words(), { typed: true });
  }

  const typed = later(160, () => words() !== q && go(words(), { typed: true }));

  for (const [name, value] of Object.entries({
    role: "combobox", "aria-autocomplete": "list", "aria-controls": "suggestions", "aria-expanded": "false",
  })) input.setAttribute(name, value);
  input.addEventListener("input", () => ((settled = false), suggest(), typed()));
  input.addEventListener("blur", closeMenu);
  input.addEventListener("keydown", (event) => {
    const { key } = event;
    if (options.length && (key === "ArrowDown" || key === "ArrowUp")) point(key === "ArrowDown" ? 1 : -1);
    else if (options.length && (key === "Enter" || key === "Tab") && chosen >= 0) take(chosen);
    else if (options.length && key === "Escape") closeMenu();
    else if (key === "Backspace" && !input.selectionEnd && split(q).pictures.length) {
      go(join(split(q).pictures.slice(0, -1), input.value));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    settled = true;
    closeMenu();
    if (words() !== q) go(words(), { typed: true });
    else onQuery(q, { settle: true });
  });
  $("clear").addEventListener("click", () => (go(""), input.focus()));

  // -- pictures from outside

  async function receive(files) {
    const pictures = [...files].filter((file) => file.type.startsWith("image/") || /\.(heic|heif|avif|tiff?)$/i.test(file.name));
    if (!pictures.length) return toast("That is not a picture");
    form.classList.add("busy");
    try {
      for (const file of pictures) {
        const token = pictureToken({ kind: "upload", ref: await upload(file), weight: 1 });
        if (!tokens(q).includes(token)) q = join([token], q);
      }
      go(q);
    } catch (error) {
      toast(error.message);
    } finally {
      form.classList.remove("busy");
    }
  }

  $("pick").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", (event) => {
    receive([...event.target.files]);
    event.target.value = "";
  });
  addEventListener("paste", (event) => event.clipboardData.files.length && (event.preventDefault(), receive(event.clipboardData.files)));
  const carries = (event) => [...event.dataTransfer.types].some((type) => type === "Files" || type === "text/x-sightline");
  addEventListener("dragover", (event) => carries(event) && (event.preventDefault(), ($("drop").hidden = false)));
  addEventListener("dragleave", (event) => event.relatedTarget || ($("drop").hidden = true));
  addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!carries(event)) return;
    event.preventDefault();
    const id = event.dataTransfer.getData("text/x-sightline");
    if (id) go(withPicture(q, id, 1));
    else receive(event.dataTransfer.files);
  });

  return { show, go, focus: () => (input.focus(), input.select()), get q() { return q; } };
}
