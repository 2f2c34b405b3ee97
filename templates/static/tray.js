// What a person has picked out: chosen pictures (to copy, download or search with), and marks
// "more like this" and "less like this" that wait to refine the search.
import { $, button, copy, h, icon, plural, post, toast } from "./dom.js";

export function createTray({ onChange, onQuery, query }) {
  const chosen = new Map(), marks = new Map();

  function changed() {
    draw();
    onChange();
  }

  const pill = (name, text, onclick, props = {}) => h("button", { type: "button", class: "pill", onclick, ...props }, icon(name), text);

  function draw() {
    const more = [...marks.values()].filter((sign) => sign > 0).length, less = marks.size - more;
    const tray = $("tray");
    tray.hidden = !chosen.size && !marks.size;
    tray.replaceChildren(...[
      marks.size && h("div", {}, h("strong", {}, [more && `${more} more`, less && `${less} less`].filter(Boolean).join(", ") + " like this"),
        h("button", { type: "button", class: "solid", title: "Refine (r)", onclick: refine }, "Refine"),
        button("close", "Forget the marks", () => (marks.clear(), changed()))),
      chosen.size && h("div", {}, h("strong", {}, `${chosen.size} chosen`),
        pill("similar", "Search with", () => onQuery([...chosen.keys()].slice(0, 20).map((id) => `like:${id}`).join(" "))),
        pill("copy", "Copy paths", paths), pill("down", "Zip", zip), button("close", "Choose none", () => (chosen.clear(), changed()))),
    ].filter(Boolean));
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

  /** The marks become terms of half the weight, so that what was asked for still leads. */
  function refine() {
    const terms = [...marks].map(([id, sign]) => `${sign < 0 ? "-" : ""}0.5:like:${id}`);
    marks.clear();
    changed();
    if (terms.length) onQuery([query(), ...terms].filter(Boolean).join(" "));
  }

  return {
    refine,
    has: (id) => chosen.has(id),
    mark: (id) => marks.get(id),
    get size() { return chosen.size; },
    choose(hits, on = hits.some((hit) => !chosen.has(hit.id))) {
      for (const hit of hits) on ? chosen.set(hit.id, hit) : chosen.delete(hit.id);
      changed();
    },
    setMark(id, sign) {
      marks.get(id) === sign ? marks.delete(id) : marks.set(id, sign);
      changed();
    },
    /** Lets go of the chosen, or of the marks; false when there was nothing to let go of. */
    clear() {
      if (!chosen.size && !marks.size) return false;
      (chosen.size ? chosen : marks).clear();
      changed();
      return true;
    },
    forgetMarks: () => (marks.clear(), changed()),
  };
}
