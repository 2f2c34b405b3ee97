// Favourites and collections: what the library keeps of photos, by POST /api/collections. Loaded with
// the first favourite of the library, or when something is kept.
import { announce, ask, button, h, icon, loadStyles, number, style, t, toast } from "./dom.js";
import "./icons.js";
import "./strings.kept.js";

const FAVOURITES = 1; // the collection that every library has
const AT_ONCE = 5000; // ids of one request

/** A request with a JSON body. */
export const send = (method, path, body) => ask(path, {
  method, ...(body && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
});

/** `work` for every part of `ids`; `progress` gets the number that is done. */
async function inParts(ids, work, progress) {
  let found;
  for (let at = 0; at < ids.length; at += AT_ONCE) {
    found = await work(ids.slice(at, at + AT_ONCE));
    progress?.(Math.min(at + AT_ONCE, ids.length));
  }
  return found;
}

export const addTo = (id, ids, progress) => inParts(ids, (part) => send("POST", `api/collections/${id}/add`, { ids: part }), progress);
export const removeFrom = (id, ids, progress) => inParts(ids, (part) => send("POST", `api/collections/${id}/remove`, { ids: part }), progress);
export const moveIn = (id, ids, before) => send("POST", `api/collections/${id}/move`, { ids: ids.slice(0, AT_ONCE), before });
/** The name of a collection; that of the favourites is the page's. */
export const nameOf = ({ favourites, name }) => (favourites ? t("kept.favourites") : name);
export const collections = async () => (await ask("api/collections")).collections;

/** The favourites of the library; `onChange` follows every change. */
export async function createFavourites({ onChange }) {
  const favourites = new Set((await ask(`api/collections/${FAVOURITES}/images`)).ids);

  /** Makes photos favourites; if all are, they are favourites no longer. */
  async function toggle(ids) {
    const on = ids.some((id) => !favourites.has(id));
    const change = (add) => { for (const id of ids) favourites[add ? "add" : "delete"](id); onChange(); };
    change(on);
    try {
      await (on ? addTo : removeFrom)(FAVOURITES, ids);
      announce(t(on ? "kept.added_to_favourites" : "kept.removed_from_favourites", { count: ids.length }));
    } catch (error) {
      change(!on);
      toast(error.message);
    }
  }
  return { has: (id) => favourites.has(id), toggle };
}

/** A menu beside `anchor` that adds photos to a collection, or to a new one. `ids` is called once one
 * is chosen. */
export async function collectionMenu(anchor, ids, { progress } = {}) {
  const [known] = await Promise.all([collections(), loadStyles("kept.css")]);
  const name = h("input", { type: "text", maxLength: 100, placeholder: t("kept.new_collection"), "aria-label": t("kept.new_collection_name"), autocomplete: "off" });
  const problem = h("p", { class: "problem", role: "alert" });
  const add = async (collection) => {
    menu.hidePopover();
    const chosen = ids();
    try {
      const { count } = await addTo(collection.id, chosen, progress);
      toast(t("kept.added_to", { collection: nameOf(collection), number: count }));
    } catch (error) {
      toast(error.message);
    }
  };
  const menu = popover(anchor, t("kept.add_to_collection"),
    h("ul", {}, ...known.map((one) => h("li", {}, h("button", { type: "button", onclick: () => add(one) },
      one.cover ? h("img", { src: `thumbnails/${one.cover}?w=256`, alt: "", width: 36, height: 36 }) : h("span", { class: "cover" }, icon(one.favourites ? "heart" : "collection")),
      h("span", {}, nameOf(one)), h("small", {}, number(one.count)))))),
    h("form", { async onsubmit(event) {
      event.preventDefault();
      try {
        await add(await send("POST", "api/collections", { name: name.value }));
      } catch (error) {
        problem.textContent = error.message;
      }
    } }, name, button("plus", t("kept.create_collection"), null, { type: "submit" })), problem);
  return menu;
}

/** A light popover below or above `anchor`; closed by Esc or a press elsewhere, and then deleted. */
export function popover(anchor, label, ...content) {
  const menu = h("div", { class: "menu", popover: "auto", role: "dialog", "aria-label": label }, h("h2", {}, label), ...content);
  (anchor.closest("dialog") ?? document.body).append(menu);
  menu.addEventListener("toggle", (event) => {
    if (event.newState === "open") return;
    menu.remove();
    if (!document.activeElement || document.activeElement === document.body) anchor.focus();
  });
  menu.addEventListener("keydown", (event) => {
    const stops = [...menu.querySelectorAll("button,input")], at = stops.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      stops[(at + step + stops.length) % stops.length].focus();
    }
    if (event.key === "Escape") {
      event.preventDefault();
      menu.hidePopover();
      anchor.focus();
    }
    event.stopPropagation(); // keys of the page and of the lightbox
  });
  menu.showPopover();
  const { left, top, bottom, width } = anchor.getBoundingClientRect(), { offsetWidth: w, offsetHeight: hh } = menu;
  const above = top - hh - 8, below = bottom + 8;
  style(menu, {
    left: `${Math.max(8, Math.min(innerWidth - w - 8, left + width / 2 - w / 2))}px`,
    top: `${Math.max(8, below + hh < innerHeight ? below : above)}px`,
  });
  menu.querySelector("input,button").focus();
  return menu;
}
