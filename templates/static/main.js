// The search page: the address holds the query, the query determines the results, the grid shows them.
import { $, announce, ask, button, h, loadStyles, matches, number, plural, toast } from "./dom.js";
import { imageTerm, setting, split, tokens } from "./query.js";
import { createFacets } from "./facets.js";
import { createGrid } from "./grid.js";
import { createSearchBox } from "./search_box.js";
import { createSelection } from "./selection.js";
import { createStatus } from "./status.js";

const PAGE_SIZE = 120;
const CACHED_RESULTS = 8;
const ERROR_DELAY = 1200; // milliseconds, while a query is being typed

let result = { q: null, hits: [], total: 0 };
let searching = null, loading = false;
const cache = new Map(); // query -> results and scroll position, for going back and forward

const actions = h("div", { class: "actions" },
  ...[["check", "select", "Select (x)"], ["similar", "s", "Similar photos (s)"], ["plus", "+", "More like this (+)"], ["minus", "-", "Less like this (−)"]]
    .map(([name, action, label]) => button(name, label, null, { "data-do": action })));

const inQuery = new Map(); // id -> weight of the library's images in the query
const selection = createSelection({
  query: () => result.q,
  onQuery: (q) => go(q),
  onChange() {
    $("results").classList.toggle("selecting", selection.size > 0);
    grid.paint();
  },
});
const grid = createGrid({
  actions,
  onNeed: more,
  onOpen: (i) => openPhoto(grid.item(i), i, true),
  onSelect: (from, to, on) => selection.select(grid.slice(from, to), on),
  onKey: act,
  stateOf: ({ id }) => ({ selected: selection.has(id), feedback: selection.feedback(id) ?? inQuery.get(id) }),
});
const facets = createFacets({ onQuery: (q) => go(q) });
const status = createStatus({ onCountChange });
const box = createSearchBox({ onQuery: (q, how) => go(q, how) });

// -- the address

const address = () => ({
  q: new URLSearchParams(location.search).get("q") ?? "",
  random: new URLSearchParams(location.search).has("random"),
  id: Number(location.hash.slice(1)) || null,
});
const href = (q, id = null) => (q ? `/?${new URLSearchParams({ q })}` : "/") + (id ? `#${id}` : "");

let timeline = null;

async function showTimeline(q) {
  if ($("timeline").hidden) return;
  timeline ??= import("./timeline.js").then(({ createTimeline }) => createTimeline({ onQuery: (to) => go(to) }));
  (await timeline).show(q);
}

/** Goes to a query. Continuous typing shares one history entry, which `settle` (Enter) ends. */
function go(q, { typed = false, settle = false } = {}) {
  if (settle) return endTyping();
  cacheResult();
  const step = typed && history.state?.typed ? "replaceState" : "pushState";
  history[step]({ typed }, "", href(q));
  box.show(q, { typed });
  search(q, { typed });
}

function endTyping() {
  history.replaceState({}, "", location.href);
  if (pendingError) showError(pendingError);
}

function cacheResult() {
  if (result.q === null || result.random) return;
  cache.delete(result.q);
  cache.set(result.q, { ...result, y: scrollY });
  if (cache.size > CACHED_RESULTS) cache.delete(cache.keys().next().value);
}

async function route() {
  const { q, random, id } = address();
  if (q !== result.q || random !== !!result.random) {
    cacheResult();
    box.show(q);
    const cached = !random && cache.get(q);
    if (cached) {
      searching?.abort();
      present(cached, { y: cached.y });
    } else await search(q, { random });
  }
  if (!id) viewer?.close();
  else if (viewer?.shown?.id !== id) {
    const i = grid.indexOf(id);
    const hit = grid.item(i) ?? (await ask(`/api/images/${id}`).catch((error) => toast(error.message)));
    if (hit && address().id === id) openPhoto(hit, i);
  }
}
addEventListener("popstate", route);
history.scrollRestoration = "manual";

// -- results

const page = (q, offset, signal) =>
  ask(`/api/search?${new URLSearchParams({ q, k: PAGE_SIZE, offset })}`, { signal });

async function search(q, { random = false, typed = false, retried = false } = {}) {
  searching?.abort();
  clearTimeout(errorTimer);
  pendingError = null;
  const { signal } = (searching = new AbortController());
  document.body.classList.add("searching");
  try {
    const found = random ? await ask(`/api/random?k=${PAGE_SIZE}`, { signal }) : await page(q, 0, signal);
    const order = tokens(q).find((token) => token.startsWith("sort:"))?.slice(5);
    const { hits, good } = found, total = random ? hits.length : found.total;
    present({
      ...found, q, random, hits, total, order, received: hits.length,
      good: good ?? null, unranked: good == null,
      divider: good != null && good < total ? good : null,
      dated: !random && (good == null || order === "newest" || order === "oldest"),
    });
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status < 500 && !retried && /upload:/.test(q)) {
      // The server has restarted and lost the uploads.
      const renewed = await import("./uploads.js").then((uploads) => uploads.uploadAgain(q)).catch((lost) => void (error = lost));
      if (renewed) {
        history.replaceState({}, "", href(renewed));
        box.show(renewed);
        return search(renewed, { retried: true });
      }
    }
    // A filter may be incomplete while it is being typed.
    if (typed) errorTimer = setTimeout(showError, ERROR_DELAY, (pendingError = error.message));
    else showError(error.message);
  } finally {
    if (searching?.signal === signal) document.body.classList.remove("searching");
  }
}

/** A server message as a sentence; a filter at its start keeps its case. */
const sentence = (text) => text.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase()) + (/[.:!?]$/.test(text) ? "" : ".");

let errorTimer, pendingError = null;

function showError(message) {
  clearTimeout(errorTimer);
  notice(message, "bad");
  announce(message);
}

function notice(text, kind = "") {
  $("notice").textContent = text ? sentence(text) : "";
  $("notice").hidden = !text;
  $("notice").className = `notice ${kind}`;
}

function present(next, { y = 0 } = {}) {
  if (next.q !== result.q) selection.clearFeedback();
  result = next;
  const { q, hits, total, good, took_ms: took, unranked, random, order } = result;
  const weak = result.nothing_matches && !!hits.length;
  document.title = q ? `${split(q).text || "Photos"} · Sightline` : "Sightline";
  inQuery.clear();
  for (const { kind, ref, weight } of split(q).images.map(imageTerm)) if (kind === "like") inQuery.set(Number(ref.split("@")[0]), weight);
  const empty = !hits.length && !q && !random;
  if ($("empty")) $("empty").hidden = !empty;
  document.body.classList.toggle("home", empty);
  let summary = !total ? (q ? "No photos" : "") : weak ? "No strong matches" : unranked ? plural(total, "photo") : matches(good);
  if (random) summary = "Random selection";
  $("summary").replaceChildren(summary, h("small", {}, empty ? "" : [
    !unranked && total && `of ${number(total)}`, unranked && total && !random && (order === "oldest" ? "oldest first" : "newest first"),
    q && took != null && `${took < 10 ? took.toFixed(1) : Math.round(took)} ms`].filter(Boolean).join(" · ")));
  const message = result.message ?? (q && !hits.length ? "No photos match these filters." : null);
  notice(empty && $("empty") ? "" : message);
  $("shuffle").hidden = !!q || empty;
  $("shuffle").setAttribute("aria-pressed", String(!!random));
  $("months").hidden = empty || random;
  const sort = $("sort");
  sort.options[0].hidden = sort.options[0].disabled = unranked;
  sort.value = order ?? (unranked ? "newest" : "relevance");
  sort.parentNode.hidden = random || empty;
  grid.set(result);
  scrollTo(0, y);
  atEnd();
  announce(message ?? $("summary").textContent);
  // Without strong matches there are no labels and months, and no space for them.
  const bare = !total || weak;
  document.body.classList.toggle("bare", bare);
  facets.show(random || bare ? null : q);
  if (!random && !bare) showTimeline(q);
}

async function more() {
  if (loading || result.q === null || result.random || result.received >= result.total) return;
  loading = true;
  const now = result;
  try {
    const { hits } = await page(now.q, now.received);
    if (now !== result) return;
    now.received = hits.length ? now.received + hits.length : now.total;
    now.known ??= new Set(now.hits.map(({ id }) => id));
    grid.append(hits.filter(({ id }) => !now.known.has(id) && now.known.add(id)));
    atEnd();
  } catch (error) {
    toast(error.message);
  } finally {
    loading = false;
  }
}

function atEnd() {
  $("end").hidden = result.received < result.total || result.hits.length < 12;
  $("end").textContent = "End of results";
}

/** The library grew or shrank by `change` images while the page was open. */
function onCountChange(change, before) {
  if (!before || (!result.q && !result.random && scrollY < 200 && !viewer?.shown)) search(result.q ?? "", { random: result.random });
  else if (change > 0) {
    $("summary").append(" ", h("button", { type: "button", class: "pill", title: "Refresh results", onclick: () => search(result.q) }, plural(change, "new photo")));
  }
}

/** Whether `key` is an action on result `i`; runs it. */
function act(key, i) {
  const hit = grid.item(i);
  if (key === "x" || key === " " || key === "select") selection.select([hit]);
  else if (key === "s") go(`like:${hit.id}`);
  else if (key === "+" || key === "=") selection.setFeedback(hit.id, 1);
  else if (key === "-") selection.setFeedback(hit.id, -1);
  else if (key === "stack") import("./stacks.js").then(({ toggleStack }) => toggleStack(grid, i));
  else return false;
  return true;
}

// -- the lightbox

let viewer = null, loadingViewer = null;

function loadViewer() {
  loadingViewer ??= Promise.all([import("./viewer.js"), loadStyles("lightbox.css")]).then(([{ createViewer }]) => (viewer = createViewer({
    grid, selection, go, more,
    result: () => result,
    openId: () => address().id,
    hrefOf: (id) => (result.random ? `/?random${id ? `#${id}` : ""}` : href(result.q, id)),
  })));
  return loadingViewer;
}
for (const name of ["pointerover", "focusin"]) $("results").addEventListener(name, loadViewer, { once: true });

const openPhoto = async (hit, i, push = false) => (await loadViewer()).open(hit, i, { push });

// -- toolbar and keyboard

$("sort").addEventListener("change", ({ target: { value } }) => {
  const standard = result.unranked ? "newest" : "relevance";
  go(setting(result.q, "sort", value === standard ? "" : value));
});
$("shuffle").addEventListener("click", () => {
  history.pushState({}, "", "/?random");
  search("", { random: true });
});
$("months").addEventListener("click", () => toggleTimeline($("timeline").hidden));
function toggleTimeline(on) {
  $("timeline").hidden = !on;
  $("months").setAttribute("aria-pressed", String(on));
  try { localStorage.setItem("months", on ? "1" : ""); } catch { /* storage is disabled */ }
  grid.relayout();
  showTimeline(result.q ?? "");
}
if ($("empty")) import("./icons.js");
$("copy-command")?.addEventListener("click", async () => (await import("./tools.js")).copy("sightline index ~/Pictures", "Copied"));
document.querySelector(".brand").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go("");
});

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=range]),select,textarea");
  if (document.querySelector("dialog[open]")) return;
  const { key } = event, control = event.ctrlKey || event.metaKey;
  if (key === "Escape" && !typing) selection.clear();
  else if (key === "Escape") event.target.blur();
  else if (key === "k" && control) box.focus();
  else if (key === "ArrowDown" && event.target === $("q")) grid.focus(0);
  else if (typing || event.altKey) return;
  else if (key === "a" && control && $("results").contains(document.activeElement)) selection.select(grid.items, true);
  else if (control) return;
  else if (key === "/") box.focus();
  else if (key === "?") status.help();
  else if (key === "r") selection.refine();
  else if (key === "ArrowDown" && document.activeElement === document.body) grid.focus(0);
  else return;
  event.preventDefault();
});

let open = matchMedia("(min-width: 800px)").matches ? "1" : "";
try { open = localStorage.getItem("months") ?? open; } catch { /* storage is disabled */ }
$("timeline").hidden = !open;
$("months").setAttribute("aria-pressed", String(!!open));
route().then(status.poll);
