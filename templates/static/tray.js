// The bar at the bottom: actions on selected images, and feedback that refines the search. Actions on
// many images run in parts and show their progress.
import { button, h, icon, load, t, toast } from "./dom.js";
import { tokens } from "./query.js";
import { bytes, copy, post } from "./tools.js";
import { imageToken } from "./terms.js";
import "./icons.js";
import "./strings.actions.js";
import "./strings.tray.js";

const MAX_TERMS = 20;
const RECORDS = 1000; // images of one request for their paths and sizes
const ZIP_FILES = 1000, ZIP_BYTES = 1e9; // of one zip file; more become several

export function createTray({ selected, feedback, changed, onQuery, query, favourite, keeps, onRemoved, selectAll }) {
  const tray = h("div", { class: "tray", id: "tray", role: "region", "aria-label": t("tray.selected_photos") });
  document.body.append(tray);
  let working = null; // what is being done

  const pill = (name, text, onclick, props = {}) => h("button", { type: "button", class: "pill", disabled: !!working, onclick, ...props }, icon(name), text);

  function draw() {
    const more = [...feedback.values()].filter((sign) => sign > 0).length, less = feedback.size - more;
    const at = [...tray.querySelectorAll("button")].indexOf(document.activeElement);
    tray.hidden = !selected.size && !feedback.size;
    tray.replaceChildren(...[
      feedback.size && h("div", {}, h("strong", {}, t(!less ? "tray.more_like" : more ? "tray.more_and_less_like" : "tray.less_like", { more, less })),
        h("button", { type: "button", class: "solid", title: t("tray.refine_key"), onclick: refine }, t("tray.refine")),
        button("close", t("tray.clear_feedback"), () => (feedback.clear(), changed()))),
      selected.size && h("div", {}, h("strong", {}, working ?? t("tray.selected", { count: selected.size })),
        keeps && pill("heart", t("tray.favourite"), () => favourite(ids()), { title: t("actions.favourite") }),
        keeps && pill("collection", t("tray.collection"), addToCollection, { "aria-haspopup": "dialog" }),
        ...(keeps && collection() ? [pill("left", t("tray.to_start"), () => move(true)), pill("right", t("tray.to_end"), () => move(false)), pill("minus", t("tray.remove"), remove)] : []),
        pill("similar", t("tray.find_similar"), findSimilar), pill("more", t("tray.more"), () => rate(1)), pill("less", t("tray.less"), () => rate(-1)),
        pill("copy", t("tray.copy_paths"), copyPaths), pill("down", t("tray.download"), downloadZip),
        pill("check", t("tray.select_all"), () => work("selecting", () => selectAll(null, { strong: false })), { title: t("tray.select_all_results") }),
        button("close", t("tray.clear_selection"), () => (selected.clear(), changed()))),
    ].filter(Boolean));
    if (at >= 0) ([...tray.querySelectorAll("button")][at] ?? document.body).focus();
  }

  const ids = () => [...selected.keys()];

  /** Runs an action on the selection; the bar shows its progress, the texts tray.work_NAME and tray.work_NAME_of. */
  async function work(name, action) {
    const progress = (done, total) => {
      working = total ? t(`tray.work_${name}_of`, { done, total }) : t(`tray.work_${name}`);
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
    if (selected.size > MAX_TERMS) toast(t("tray.similar_to_first", { number: MAX_TERMS, total: selected.size }));
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
    await collectionMenu(currentTarget, ids, { progress: (done) => toast(t("tray.added_of", { done, total: selected.size })) });
  }

  /** The collection that is shown, from its name. */
  async function shown() {
    const { collections, ...rest } = await load("kept.js"), name = collection().toLowerCase();
    const found = (await collections()).find((one) => one.name.toLowerCase() === name);
    if (!found) throw new Error(t("tray.collection_deleted"));
    return { ...rest, id: found.id };
  }

  const move = (first) => work("moving", async () => {
    const { id, moveIn } = await shown();
    const { ids: order } = await (await load("order.js")).orderOf(query());
    const others = order.filter((one) => !selected.has(one));
    if (others.length) await moveIn(id, order.filter((one) => selected.has(one)), first ? others[0] : null);
    onRemoved();
  });

  const remove = () => work("removing", async (progress) => {
    const { id, removeFrom } = await shown(), all = ids();
    await removeFrom(id, all, (done) => progress(done, all.length));
    toast(t("tray.removed", { count: all.length, collection: collection() }));
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

  const copyPaths = () => work("reading", async (progress) => {
    const paths = (await records(progress)).map((hit) => hit.absolute ?? hit.path);
    await copy(paths.join("\n"), t("tray.paths_copied", { count: paths.length }));
  });

  const downloadZip = () => work("preparing", async (progress) => {
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
      if (parts.length > 1) toast(t("tray.downloaded_of", { done, total: selected.size, size: bytes(blob.size) }));
    }
  });

  return { draw, refine };
}
