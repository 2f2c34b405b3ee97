// What the empty search box offers: saved searches, recent ones (in this browser only), collections,
// folders and examples; and saving a search. Loaded when the box first gets the focus.
import { ask, button, h, icon, loadStyles, number, t, toast } from "./dom.js";
import { nameOf, popover, send } from "./kept.js";
import "./strings.kept.js";

const EXAMPLES = ["dog on a beach", "sunset over water", "birthday cake", "a street at night -rain", "snow is:landscape"];
const FOLDERS = 6, RECENT = "recent", MAX_RECENT = 8;

/** The recent queries of this browser, newest first. */
function recent() {
  try {
    return JSON.parse(localStorage.getItem(RECENT)) ?? [];
  } catch { // storage is disabled, or another program's
    return [];
  }
}

/** Adds a query to the recent ones of this browser. Uploads are temporary. */
export function remember(q) {
  if (/upload:/.test(q)) return;
  try {
    localStorage.setItem(RECENT, JSON.stringify([q, ...recent().filter((other) => other !== q)].slice(0, MAX_RECENT)));
  } catch { /* storage is disabled */ }
}

const quote = (value) => (/\s/.test(value) ? `"${value}"` : value);
const saved = async () => (await ask("api/searches")).searches;

/** The list below the empty box `input`. `go(q)` searches; `keeps`: the library keeps searches. */
export function createStart({ input, go, keeps }) {
  const panel = h("div", { id: "start", role: "group", "aria-label": t("kept.saved_and_recent"), hidden: true });
  input.form.append(panel);
  const stops = () => [...panel.querySelectorAll("button")];
  const hide = () => (panel.hidden = true);

  async function show() {
    if (input.value.trim()) return hide();
    const quietly = (asked) => asked.catch(() => null);
    const [searches, collections, folders] = await Promise.all([
      keeps && quietly(saved()), keeps && quietly(ask("api/collections")), quietly(ask("api/suggest?prefix=in:")), loadStyles("kept.css"),
    ]);
    if (input.value.trim() || !input.form.contains(document.activeElement)) return hide();
    const search = (q, ...content) => h("button", { type: "button", class: "row", onclick: () => (hide(), go(q)) }, ...content);
    const chip = (q, text, count, image) => h("button", { type: "button", class: "pill", onclick: () => (hide(), go(q)) },
      image, text, count != null && h("small", {}, number(count)));
    const section = (title, node, more) => node && h("section", {}, h("h3", {}, title, more), node);
    const remove = async ({ name }) => {
      await send("DELETE", `api/searches?name=${encodeURIComponent(name)}`).catch((error) => toast(error.message));
      await show();
      input.focus();
    };
    const list = (items, row) => !!items?.length && h("ul", {}, ...items.map((item) => h("li", {}, ...row(item))));
    const chips = (items) => !!items?.length && h("p", { class: "row-of-chips" }, ...items);
    const lately = recent();
    panel.replaceChildren(...[
      section(t("kept.saved"), list(searches, (one) => [
        search(one.query, icon("star"), h("span", {}, one.name), one.name !== one.query && h("small", {}, one.query)),
        button("close", t("kept.delete", { name: one.name }), () => remove(one)),
      ])),
      section(t("kept.recent"), list(lately, (q) => [search(q, icon("search"), h("span", {}, q))]),
        h("button", { type: "button", class: "link", onclick: () => (forgetRecent(), show(), input.focus()) }, t("kept.clear"))),
      section(t("kept.collections"), chips(collections?.collections.filter(({ count }) => count).map((one) => chip(
        one.favourites ? "is:favourite" : `collection:${quote(one.name)}`, nameOf(one), one.count,
        one.favourites ? icon("heart") : h("img", { src: `thumbnails/${one.cover}?w=256`, alt: "", width: 22, height: 22 }))))),
      section(t("kept.folders"), chips(folders?.suggestions.slice(0, FOLDERS).map(({ text, count }) => chip(text, text.replace(/^in:"?|"$/g, ""), count)))),
      !lately.length && section(t("kept.examples"), chips(EXAMPLES.map((text) => chip(text, text)))),
    ].filter(Boolean));
    panel.hidden = !panel.childElementCount;
  }

  panel.addEventListener("pointerdown", (event) => event.preventDefault()); // the box keeps the focus
  input.addEventListener("focus", show);
  input.addEventListener("input", () => (input.value.trim() ? hide() : show()));
  input.addEventListener("click", show);
  input.form.addEventListener("submit", hide);
  input.form.addEventListener("focusout", (event) => input.form.contains(event.relatedTarget) || hide());
  input.form.addEventListener("keydown", (event) => {
    if (panel.hidden) return;
    const all = stops(), at = all.indexOf(document.activeElement), step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") {
      hide();
      if (at < 0) return; // the page takes the focus from the box
      input.focus();
      hide();
    } else if (step && (at >= 0 || (step > 0 && document.activeElement === input))) (all[at + step] ?? input).focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, { capture: true });
  return { show, hide };
}

function forgetRecent() {
  try { localStorage.removeItem(RECENT); } catch { /* storage is disabled */ }
}

/** Asks for a name and saves the query `q`; a saved query can be renamed or deleted. */
export async function saveMenu(anchor, q) {
  const [known] = await Promise.all([saved(), loadStyles("kept.css")]);
  const before = known.find((one) => one.query === q);
  const name = h("input", { type: "text", maxLength: 100, required: true, value: before?.name ?? q.slice(0, 100).replaceAll('"', ""), "aria-label": t("kept.name"), autocomplete: "off" });
  const problem = h("p", { class: "problem", role: "alert" });
  const done = (text) => (menu.hidePopover(), toast(text));
  const drop = (one) => send("DELETE", `api/searches?name=${encodeURIComponent(one.name)}`);
  const attempt = (work) => work().catch((error) => (problem.textContent = error.message));
  const menu = popover(anchor, t(before ? "kept.saved_search" : "kept.save_search"), h("form", {
    onsubmit: (event) => (event.preventDefault(), attempt(async () => {
      await send("POST", "api/searches", { name: name.value, query: q });
      if (before && before.name.toLowerCase() !== name.value.trim().toLowerCase()) await drop(before);
      anchor.setAttribute("aria-pressed", "true");
      done(t("kept.search_saved"));
    })),
  }, name, h("button", { class: "solid" }, t("kept.save")),
  before && button("close", t("kept.delete", { name: before.name }), () => attempt(async () => {
    await drop(before);
    anchor.setAttribute("aria-pressed", "false");
    done(t("kept.search_deleted"));
  }))), problem);
  name.select();
}
