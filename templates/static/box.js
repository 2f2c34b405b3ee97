// The search box: what is typed and the pictures given. Chips, suggestions and what sends pictures
// are loaded when they are first needed.
import { $, h, later, sheet } from "./dom.js";
import { join, split, tokens, unfinished } from "./query.js";

/** Once typing has stopped for this long, in ms, it is searched. */
const PAUSE = 100;

export function createBox({ onQuery }) {
  const input = $("q"), form = input.form;
  let q = "", given = [], chips = null, menu = null, dropped = false;

  // A picture that was typed (like:5) stays the box's own words while they are changed.
  const words = () => join(given, input.value.trim());

  /** Shows a query; `typed` leaves the words in the box as they are. */
  function show(text, { typed = false } = {}) {
    q = text;
    const parts = split(q), own = typed ? tokens(input.value) : [];
    given = parts.pictures.filter((token) => !own.includes(token));
    if (!typed && words() !== q) input.value = parts.text;
    $("clear").hidden = !q;
    drawChips();
  }

  function go(text, how) {
    show(text, how);
    onQuery(q, how);
  }

  /** Words alone have no parts to show, and the server need not be asked what they are. */
  async function drawChips() {
    const parts = tokens(q).some((token) => /^[-“„«]|[":]/.test(token));
    $("chips").hidden = !parts;
    if (!parts) return $("thumbs").replaceChildren();
    chips ??= Promise.all([import("./chips.js"), sheet("more.css")])
      .then(([{ createChips }]) => createChips({ go, query: () => q, focus: () => input.focus() }));
    (await chips).draw();
  }

  function suggest() {
    menu ??= Promise.all([import("./suggest.js"), sheet("more.css")])
      .then(([{ createSuggestions }]) => createSuggestions({ input, onTake: () => go(words(), { typed: true }) }));
    return menu;
  }

  const typed = later(PAUSE, () => !unfinished(input.value) && words() !== q && go(words(), { typed: true }));

  input.addEventListener("focus", suggest);
  input.addEventListener("input", async () => {
    typed();
    (await suggest()).ask();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Backspace" || input.selectionEnd || !given.length) return;
    go(join(given.slice(0, -1), input.value));
    event.preventDefault();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (words() !== q) go(words(), { typed: true });
    else onQuery(q, { settle: true });
    (await menu)?.settle();
  });
  $("clear").addEventListener("click", () => (go(""), input.focus()));

  // -- pictures from outside

  async function receive(files) {
    const list = [...files]; // a drop's own list is empty as soon as its event is over
    form.classList.add("busy");
    const { take } = await import("./pictures.js");
    const taken = await take(list);
    form.classList.remove("busy");
    if (taken.length) go(join(taken.filter((token) => !tokens(q).includes(token)), q));
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
  const carries = (event) => [...event.dataTransfer.types].some((type) => type === "Files" || type === "text/x-sightline");
  addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    dropped = false;
    sheet("more.css").then(() => ($("drop").hidden = dropped));
  });
  const away = () => ($("drop").hidden = dropped = true);
  addEventListener("dragleave", (event) => event.relatedTarget || away());
  addEventListener("drop", async (event) => {
    away();
    if (!carries(event)) return;
    event.preventDefault();
    const id = event.dataTransfer.getData("text/x-sightline");
    if (id) go((await import("./terms.js")).withPicture(q, id, 1));
    else receive(event.dataTransfer.files);
  });

  return { show, go, focus: () => (input.focus(), input.select()) };
}
