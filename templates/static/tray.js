// The bar at the bottom: actions on selected images, and feedback that refines the search.
import { button, h, icon, number, plural, toast } from "./dom.js";
import { copy, post } from "./tools.js";
import { imageToken } from "./terms.js";
import "./icons.js";

const MAX_TERMS = 20;

export function createTray({ selected, feedback, changed, onQuery, query }) {
  const tray = h("div", { class: "tray", id: "tray", role: "region", "aria-label": "Selected photos" });
  document.body.append(tray);
  const pill = (name, text, onclick) => h("button", { type: "button", class: "pill", onclick, "aria-label": text }, icon(name), text);

  function draw() {
    const more = [...feedback.values()].filter((sign) => sign > 0).length, less = feedback.size - more;
    tray.hidden = !selected.size && !feedback.size;
    tray.replaceChildren(...[
      feedback.size && h("div", {}, h("strong", {}, [more && `${more} more`, less && `${less} less`].filter(Boolean).join(", ") + " like this"),
        h("button", { type: "button", class: "solid", title: "Refine (r)", onclick: refine }, "Refine"),
        button("close", "Clear feedback", () => (feedback.clear(), changed()))),
      selected.size && h("div", {}, h("strong", {}, `${number(selected.size)} selected`),
        pill("similar", "Find similar", findSimilar), pill("more", "More like this", () => rate(1)), pill("less", "Less like this", () => rate(-1)),
        pill("copy", "Copy paths", copyPaths), pill("down", "Download zip", downloadZip), button("close", "Clear selection", () => (selected.clear(), changed()))),
    ].filter(Boolean));
  }

  function findSimilar() {
    if (selected.size > MAX_TERMS) toast(`Similar to the first ${MAX_TERMS} of ${number(selected.size)} selected photos`);
    onQuery([...selected.keys()].slice(0, MAX_TERMS).map((id) => `like:${id}`).join(" "));
  }

  /** The selected photos become feedback. */
  function rate(sign) {
    for (const id of selected.keys()) feedback.set(id, sign);
    selected.clear();
    changed();
  }

  /** Feedback becomes terms of weight .5, so that the original query dominates. */
  function refine() {
    const terms = [...feedback].map(([id, sign]) => imageToken({ kind: "like", ref: id, weight: sign / 2 }));
    if (!terms.length) return;
    feedback.clear();
    changed();
    onQuery([query(), ...terms].filter(Boolean).join(" "));
  }

  const copyPaths = () => copy([...selected.values()].map((hit) => hit.absolute ?? hit.path).join("\n"), `${plural(selected.size, "path")} copied`);

  async function downloadZip(event) {
    const pressed = event.currentTarget;
    pressed.disabled = true;
    try {
      const answer = await post("api/zip", { ids: [...selected.keys()] });
      if (!answer.ok) throw new Error((await answer.json()).error);
      const href = URL.createObjectURL(await answer.blob());
      h("a", { href, download: "photos.zip" }).click();
      setTimeout(() => URL.revokeObjectURL(href), 60_000);
    } catch (error) {
      toast(error.message);
    } finally {
      pressed.disabled = false;
    }
  }

  return { draw, refine };
}
