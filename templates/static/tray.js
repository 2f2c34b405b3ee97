// The bar at the bottom: actions on selected images, and feedback that refines the search. Actions on
// many images run in parts and show their progress.
import { button, h, icon, load, number, plural, toast } from "./dom.js";
import { tokens } from "./query.js";
import { bytes, copy, post } from "./tools.js";
import { imageToken } from "./terms.js";
import "./icons.js";

const MAX_TERMS = 20;
const RECORDS = 1000; // images of one request for their paths and sizes
const ZIP_FILES = 1000, ZIP_BYTES = 1e9; // of one zip file; more become several

export function createTray({ selected, feedback, changed, onQuery, query, favourite, keeps, onRemoved, selectAll }) {
  const tray = h("div", { class: "tray", id: "tray", role: "region", "aria-label": "Selected photos" });
  document.body.append(tray);
  let working = null; // what is being done

  const pill = (name, text, onclick, props = {}) => h("button", { type: "button", class: "pill", disabled: !!working, onclick, ...props }, icon(name), text);

  function draw() {
    const more = [...feedback.values()].filter((sign) => sign > 0).length, less = feedback.size - more;
    const at = [...tray.querySelectorAll("button")].indexOf(document.activeElement);
    tray.hidden = !selected.size && !feedback.size;
    tray.replaceChildren(...[
      feedback.size && h("div", {}, h("strong", {}, [more && `${more} more`, less && `${less} less`].filter(Boolean).join(", ") + " like this"),
        h("button", { type: "button", class: "solid", title: "Refine (r)", onclick: refine }, "Refine"),
        button("close", "Clear feedback", () => (feedback.clear(), changed()))),
      selected.size && h("div", {}, h("strong", {}, working ?? `${number(selected.size)} selected`),
        keeps && pill("heart", "Favourite", () => favourite(ids()), { title: "Favourite (f)" }),
        keeps && pill("collection", "Collection", addToCollection, { "aria-haspopup": "dialog" }),
        ...(keeps && collection() ? [pill("left", "To start", () => move(true)), pill("right", "To end", () => move(false)), pill("minus", "Remove", remove)] : []),
        pill("similar", "Find similar", findSimilar), pill("more", "More like this", () => rate(1)), pill("less", "Less like this", () => rate(-1)),
        pill("copy", "Copy paths", copyPaths), pill("down", "Download zip", downloadZip),
        pill("check", "Select all", () => work("Selecting", () => selectAll(null, { strong: false })), { title: "Select all results" }),
        button("close", "Clear selection", () => (selected.clear(), changed()))),
    ].filter(Boolean));
    if (at >= 0) ([...tray.querySelectorAll("button")][at] ?? document.body).focus();
  }

  const ids = () => [...selected.keys()];

  /** Runs an action on the selection; the bar shows its progress. */
  async function work(text, action) {
    const progress = (done, total) => {
      working = total ? `${text} ${number(done)} of ${number(total)}` : `${text}…`;
      draw();
    };
    try {
      progress();
      await action(progress);
    } catch (error) {
      toast(error.message);
    } finally {
      working = null;
      draw();
    }
  }

  function findSimilar() {
    if (selected.size > MAX_TERMS) toast(`Similar to the first ${MAX_TERMS} of ${number(selected.size)} selected photos`);
    onQuery(ids().slice(0, MAX_TERMS).map((id) => `like:${id}`).join(" "));
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

  // -- collections

  /** The name of the one collection that is shown. */
  function collection() {
    const names = tokens(query() ?? "").filter((token) => /^collection:/i.test(token));
    return names.length === 1 ? names[0].slice(11).replaceAll('"', "") : null;
  }

  async function addToCollection({ currentTarget }) {
    const { collectionMenu } = await load("kept.js");
    await collectionMenu(currentTarget, ids, { progress: (done) => toast(`Added ${number(done)} of ${number(selected.size)}`) });
  }

  /** The collection that is shown, from its name. */
  async function shown() {
    const { collections, ...rest } = await load("kept.js"), name = collection().toLowerCase();
    const found = (await collections()).find((one) => one.name.toLowerCase() === name);
    if (!found) throw new Error("This collection was deleted.");
    return { ...rest, id: found.id };
  }

  const move = (first) => work("Moving", async () => {
    const { id, moveIn } = await shown();
    const { ids: order } = await (await load("order.js")).orderOf(query());
    const others = order.filter((one) => !selected.has(one));
    if (others.length) await moveIn(id, order.filter((one) => selected.has(one)), first ? others[0] : null);
    onRemoved();
  });

  const remove = () => work("Removing", async (progress) => {
    const { id, removeFrom } = await shown(), all = ids();
    await removeFrom(id, all, (done) => progress(done, all.length));
    toast(`Removed ${plural(all.length, "photo")} from ${collection()}`);
    selected.clear();
    changed();
    onRemoved();
  });

  // -- files

  /** What the server has of the selected photos; those not loaded are asked for. */
  async function records(progress) {
    const missing = ids().filter((id) => selected.get(id) === true);
    for (let at = 0; at < missing.length; at += RECORDS) {
      progress(selected.size - missing.length + at, selected.size);
      const answer = await post("api/images", { ids: missing.slice(at, at + RECORDS) });
      if (!answer.ok) throw new Error((await answer.json()).error);
      for (const hit of (await answer.json()).images) if (selected.has(hit.id)) selected.set(hit.id, hit);
    }
    return [...selected.values()].filter((hit) => hit !== true);
  }

  const copyPaths = () => work("Reading", async (progress) => {
    const paths = (await records(progress)).map((hit) => hit.absolute ?? hit.path);
    await copy(paths.join("\n"), `${plural(paths.length, "path")} copied`);
  });

  const downloadZip = () => work("Preparing", async (progress) => {
    const parts = [[]];
    let size = 0;
    for (const hit of await records(progress)) {
      if (parts.at(-1).length && (parts.at(-1).length >= ZIP_FILES || size + hit.size > ZIP_BYTES)) {
        parts.push([]);
        size = 0;
      }
      parts.at(-1).push(hit.id);
      size += hit.size;
    }
    let done = 0;
    for (const [i, part] of parts.entries()) {
      progress(done, selected.size);
      const answer = await post("api/zip", { ids: part });
      if (!answer.ok) throw new Error((await answer.json()).error);
      const blob = await answer.blob(), href = URL.createObjectURL(blob);
      h("a", { href, download: parts.length === 1 ? "photos.zip" : `photos-${i + 1}-of-${parts.length}.zip` }).click();
      setTimeout(() => URL.revokeObjectURL(href), 60_000);
      done += part.length;
      if (parts.length > 1) toast(`${number(done)} of ${number(selected.size)} photos, ${bytes(blob.size)}`);
    }
  });

  return { draw, refine };
}
