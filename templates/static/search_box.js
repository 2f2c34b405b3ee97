// The search box: it holds words; images are shown in it, filters as chips below it. Chips, suggestions
// and uploads are loaded when needed.
import { $, debounce, load, loadStyles, once } from "./dom.js";
import { filterOf, incomplete, isSetting, join, split, tokens } from "./query.js";

/** Milliseconds without a keystroke after which the text is searched. */
const PAUSE = 100;

export function createSearchBox({ onQuery }) {
  const input = $("q"), form = input.form;
  let q = "", images = [], filters = [], dates = [], shown = "", dropped = false;

  /** The text with its last quote closed: what follows in the query is not part of it. */
  const typedText = () => input.value.trim() + (input.value.split('"').length % 2 ? "" : '"');
  // A filter or an image term (like:5) stays in the text while it is being typed.
  const current = () => join(images, typedText(), filters);

  /** Shows a query; `typed` leaves the text in the box as it is. */
  function show(text, { typed = false } = {}) {
    q = text;
    const parts = split(q), own = typed ? tokens(typedText()) : [];
    images = parts.images.filter((token) => !own.includes(token));
    filters = parts.filters.filter((token) => !own.includes(token));
    if (!typed && input.value.trim() !== parts.text) input.value = parts.text;
    shown = current();
    $("clear").hidden = !q;
    if (!q) $("star").hidden = true; // together, so that neither moves
    drawChips();
  }

  /** Shows the dates that the server read in the words of the query. */
  function showDates(found) {
    if (!found.length && !dates.length) return;
    dates = found;
    drawChips();
  }

  /** Moves complete filters from the text to the chips: of the whole text, or before the cursor. */
  function absorb(end = input.value.length) {
    const head = input.value.slice(0, end), rest = input.value.slice(end);
    const isComplete = (token) => filterOf(token) && !incomplete(token) && token.split('"').length % 2;
    const found = tokens(head).filter(isComplete);
    if (!found.length) return;
    filters = [...filters.filter((token) => !found.includes(token)), ...found];
    const words = tokens(head).filter((token) => !isComplete(token)).join(" ");
    const kept = words && /\s$/.test(head) ? `${words} ` : words;
    input.value = kept + rest.trimStart();
    input.setSelectionRange(kept.length, kept.length);
  }

  /** Puts a filter back into the text. */
  function edit(token) {
    filters = filters.filter((other) => other !== token);
    input.value = [input.value.trim(), token].filter(Boolean).join(" ");
    input.focus();
    input.setSelectionRange(input.value.length, input.value.length);
  }

  function go(text, how) {
    show(text, how);
    onQuery(q, how);
  }

  /** Plain text has no chips, so the server need not parse it. */
  async function drawChips() {
    const parts = (q && dates.length) || tokens(q).some((token) => /^-|[":]/.test(token) && !(filterOf(token) && isSetting(filterOf(token))));
    $("chips").hidden = !parts;
    if (!parts) return $("thumbs").replaceChildren();
    (await chips()).draw();
  }
  const chips = once(() => Promise.all([load("chips.js", "terms.js", "icons.js", "strings.query.js"), loadStyles("more.css")])
    .then(([{ createChips }]) => createChips({ go, edit, query: () => q, dates: () => dates, focus: () => input.focus() })));
  const menu = once(() => Promise.all([load("suggest.js", "strings.query.js"), loadStyles("more.css")])
    .then(([{ createSuggestions }]) => createSuggestions({ input, onAccept: () => (absorb(input.selectionStart), go(current(), { typed: true })) })));
  const quietly = (work) => menu().then(work, () => null); // the box works without suggestions

  const searchTyped = debounce(PAUSE, () => !incomplete(input.value) && current() !== shown && go(current(), { typed: true }));

  input.addEventListener("focus", () => quietly());
  input.addEventListener("input", () => {
    if (/\s/.test(input.value[input.selectionStart - 1])) absorb(input.selectionStart);
    searchTyped();
    quietly((menu) => menu.update());
  });
  input.addEventListener("blur", () => absorb());
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Backspace" || event.repeat || input.selectionEnd) return;
    const chips = filters.filter((token) => !isSetting(filterOf(token)));
    if (chips.length) go(join(images, typedText(), filters.filter((token) => token !== chips.at(-1))));
    else if (images.length) go(join(images.slice(0, -1), typedText(), filters));
    else return;
    event.preventDefault();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    absorb();
    if (current() !== shown) show(current(), { typed: true });
    onQuery(q, { typed: true, settle: true });
    quietly((menu) => menu.dismiss());
  });
  $("clear").addEventListener("click", () => (go(""), input.focus()));

  // -- images from files, the clipboard and drag and drop

  async function receive(files) {
    const list = [...files]; // a DataTransfer's files are empty once its event is over
    form.classList.add("busy");
    const added = await load("uploads.js", "terms.js", "strings.query.js").then(({ uploadAll }) => uploadAll(list)).finally(() => form.classList.remove("busy"));
    if (added.length) go(join(added.filter((token) => !tokens(q).includes(token)), q));
  }

  $("pick").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", (event) => {
    receive(event.target.files);
    event.target.value = "";
  });
  addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    receive(event.clipboardData.files);
  });
  const accepts = (event) => [...event.dataTransfer.types].some((type) => type === "Files" || type === "text/x-sightline");
  addEventListener("dragover", (event) => {
    if (!accepts(event)) return;
    event.preventDefault();
    dropped = false;
    loadStyles("more.css").then(() => ($("drop").hidden = dropped), () => null);
  });
  const hideDrop = () => ($("drop").hidden = dropped = true);
  addEventListener("dragleave", (event) => event.relatedTarget || hideDrop());
  addEventListener("drop", async (event) => {
    hideDrop();
    if (!accepts(event)) return;
    event.preventDefault();
    const id = event.dataTransfer.getData("text/x-sightline");
    if (id) go((await load("terms.js")).withImage(q, id, 1));
    else receive(event.dataTransfer.files);
  });

  return { show, showDates, go, focus: () => (input.focus(), input.select()) };
}
