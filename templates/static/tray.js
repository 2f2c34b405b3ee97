// The bar at the bottom: what can be done with the pictures that were chosen or marked.
import { button, h, icon, number, plural, toast } from "./dom.js";
import { copy, post } from "./tools.js";
import { pictureToken } from "./terms.js";
import "./icons.js";

const MOST_TERMS = 20;

export function createTray({ chosen, marks, changed, onQuery, query }) {
  const tray = h("div", { class: "tray", id: "tray", role: "region", "aria-label": "Chosen pictures" });
  document.body.append(tray);
  const pill = (name, text, onclick) => h("button", { type: "button", class: "pill", onclick, "aria-label": text }, icon(name), text);

  function draw() {
    const more = [...marks.values()].filter((sign) => sign > 0).length, less = marks.size - more;
    tray.hidden = !chosen.size && !marks.size;
    tray.replaceChildren(...[
      marks.size && h("div", {}, h("strong", {}, [more && `${more} more`, less && `${less} less`].filter(Boolean).join(", ") + " like this"),
        h("button", { type: "button", class: "solid", title: "Refine (r)", onclick: refine }, "Refine"),
        button("close", "Forget the marks", () => (marks.clear(), changed()))),
      chosen.size && h("div", {}, h("strong", {}, `${number(chosen.size)} chosen`),
        pill("similar", "Search with", () => onQuery([...chosen.keys()].slice(0, MOST_TERMS).map((id) => `like:${id}`).join(" "))),
        pill("copy", "Copy paths", paths), pill("down", "Zip", zip), button("close", "Choose none", () => (chosen.clear(), changed()))),
    ].filter(Boolean));
  }

  /** The marks become terms of half the weight, so that what was asked for still leads. */
  function refine() {
    const terms = [...marks].map(([id, sign]) => pictureToken({ kind: "like", ref: id, weight: sign / 2 }));
    if (!terms.length) return;
    marks.clear();
    changed();
    onQuery([query(), ...terms].filter(Boolean).join(" "));
  }

  const paths = () => copy([...chosen.values()].map((hit) => hit.absolute ?? hit.path).join("\n"), `${plural(chosen.size, "path")} copied`);

  async function zip(event) {
    const made = event.currentTarget;
    made.disabled = true;
    try {
      const answer = await post("/api/zip", { ids: [...chosen.keys()] });
      if (!answer.ok) throw new Error((await answer.json()).error);
      const href = URL.createObjectURL(await answer.blob());
      h("a", { href, download: "pictures.zip" }).click();
      setTimeout(() => URL.revokeObjectURL(href), 60_000);
    } catch (error) {
      toast(error.message);
    } finally {
      made.disabled = false;
    }
  }

  return { draw, refine };
}
