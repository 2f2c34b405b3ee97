// A picture of the search, given or of the library, looked at large to search with a part of it.
// Loaded with the first press on such a picture's chip.
import { ask, button, h, sheet, toast } from "./dom.js";
import { createStage } from "./stage.js";

async function ofLibrary(id) {
  const { name, v, color, width, height } = await ask(`/api/images/${id}`);
  return { src: `/thumbnails/${id}${v ? `?v=${v}` : ""}`, better: `/images/${id}?size=2048`, own: `/images/${id}`, alt: name, color, width, height };
}

async function given(token) {
  const { urlOf } = await import("./pictures.js");
  const image = new Image();
  image.src = (await urlOf(token)) ?? "data:,";
  await image.decode().catch(() => {
    throw new Error("This browser cannot show that picture");
  });
  return { src: image.src, alt: "The picture that was given", width: image.naturalWidth, height: image.naturalHeight };
}

let whole, chosen = () => null;
const done = (part) => (dialog.close(), chosen(part));
const stage = createStage({ onPart: (part) => done(part.map(Number)) });
const dialog = h("dialog", { class: "lightbox", "aria-label": "Part of a picture", onclose: () => stage.clear() }, stage.node);
stage.cropbar.lastChild.before((whole = h("button", { type: "button", class: "pill", onclick: () => done(null) }, "Whole picture")));
stage.node.append(h("div", { class: "over" }, button("close", "Close (Esc)", () => dialog.close()), h("span", { class: "gap" }), ...stage.tools));
document.body.append(dialog);
addEventListener("popstate", () => dialog.close()); // the page below went to another search
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !stage.key(event)) return;
  event.preventDefault();
  event.stopPropagation();
});

/** Lets a person choose; `onChosen` is given a box, or null for the whole picture. */
export async function choosePart({ kind, id, token, box }, onChosen) {
  try {
    const [source] = await Promise.all([kind === "like" ? ofLibrary(id) : given(token), sheet("lightbox.css")]);
    chosen = onChosen;
    whole.hidden = !box;
    dialog.showModal();
    stage.show(source);
    stage.cropping(true, box);
  } catch (error) {
    toast(error.message);
  }
}
