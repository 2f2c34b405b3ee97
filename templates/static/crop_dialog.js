// A dialog in which a part of one of the query's images is chosen. Loaded with the first click on such
// an image's chip.
import { ask, button, h, load, loadStyles, t, toast } from "./dom.js";
import { createStage } from "./stage.js";
import "./strings.photo.js";

async function libraryImage(id) {
  const { name, v, color, width, height } = await ask(`api/images/${id}`);
  return { src: `thumbnails/${id}${v ? `?v=${v}` : ""}`, preview: `images/${id}?size=2048`, original: `images/${id}`, alt: name, color, width, height };
}

async function uploadedImage(token) {
  const { urlOf } = await load("uploads.js");
  const image = new Image();
  image.src = (await urlOf(token)) ?? "data:,";
  await image.decode().catch(() => {
    throw new Error(t("photo.not_displayed"));
  });
  return { src: image.src, alt: t("photo.uploaded"), width: image.naturalWidth, height: image.naturalHeight };
}

let whole, onChosen = () => null;
const choose = (crop) => (dialog.close(), onChosen(crop));
const stage = createStage({ onCrop: (crop) => choose(crop.map(Number)) });
const dialog = h("dialog", { class: "lightbox", "aria-label": t("photo.part"), onclose: () => stage.clear() }, stage.node);
stage.cropbar.lastChild.before((whole = h("button", { type: "button", class: "pill", onclick: () => choose(null) }, t("photo.whole"))));
stage.node.append(h("div", { class: "over" }, button("close", t("photo.close"), () => dialog.close()), h("span", { class: "gap" }), ...stage.tools));
document.body.append(dialog);
addEventListener("popstate", () => dialog.close()); // the page behind shows another search now
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !stage.key(event)) return;
  event.preventDefault();
  event.stopPropagation();
});

/** Opens the dialog for an image term; calls `callback` with a box, or null for the whole image. */
export async function chooseCrop({ kind, id, token, box }, callback) {
  try {
    const [source] = await Promise.all([kind === "like" ? libraryImage(id) : uploadedImage(token), loadStyles("lightbox.css")]);
    onChosen = callback;
    whole.hidden = !box;
    dialog.showModal();
    stage.show(source);
    stage.setCropping(true, box);
  } catch (error) {
    toast(error.message);
  }
}
