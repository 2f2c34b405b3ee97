// The search page: the address holds the query, the query determines the results, the grid shows them.
import "./strings.page.js";
import { $, Unreachable, announce, ask, debounce, h, load, loadStyles, number, once, pieces, t, toast } from "./dom.js";
import { dateRange, imageTerm, setting, split, tokens } from "./query.js";
import { createGrid } from "./grid.js";
import { createSearchBox } from "./search_box.js";
import { createSelection } from "./selection.js";
import { createStatus } from "./status.js";

const PAGE_SIZE = 120, MAX_PAGE_SIZE = 1000;
const RECENT_DELAY = 2500; // milliseconds that a search is shown before it counts as a recent one
const CACHED_RESULTS = 8;
const ERROR_DELAY = 1200; // milliseconds, while a query is being typed
const CORRECTION_PAUSE = 500; // milliseconds after which a typed query is checked for mistakes

let result = { q: null, hits: [], total: 0, random: null };
let searching = null, loading = null;
const cache = new Map(); // query -> results and scroll position, for going back and forward

const inQuery = new Map(); // id -> weight of the library's images in the query
const selection = createSelection({
  query: () => result.q,
  onQuery: (q) => go(q),
  onRemoved: () => search(result.q, { y: scrollY }),
  onChange() {
    $("results").classList.toggle("selecting", selection.size > 0);
    grid.paint();
  },
});
const grid = createGrid({
  onNeed: (step) => (step > 0 ? more() : result.base && jumps().then((to) => to.before())),
  onEdge: (step) => edge(step),
  onRange: selection.range,
  onDrag: selection.drag,
  onOpen: (i) => openPhoto(grid.item(i), i, true),
  onSelect: (from, to, on) => selection.select(grid.slice(from, to), on),
  onKey: act,
  stateOf: ({ id }) => ({ selected: selection.has(id), favourite: selection.isFavourite(id), feedback: selection.feedback(id) ?? inQuery.get(id) }),
});
const facets = once(() => load("facets.js").then(({ createFacets }) => createFacets({ onQuery: (q) => go(q) })));
const status = createStatus({ onCountChange, onReturn });
const box = createSearchBox({ onQuery: (q, how) => go(q, how) });

// -- the address

/** The parts of the address; `random` is the seed of a random selection. */
function address() {
  const parameters = new URLSearchParams(location.search);
  return { q: parameters.get("q") ?? "", random: parameters.get("random"), id: Number(location.hash.slice(1)) || null };
}
const href = (q, id = null) => (q ? `./?${new URLSearchParams({ q })}` : "./") + (id ? `#${id}` : "");

const timeline = once(() => load("timeline.js").then(({ createTimeline }) => createTimeline({ onQuery: (to) => go(to) })));
const showTimeline = async (q) => $("timeline").hidden || (await timeline()).show(q);

/** Goes to a query. Continuous typing shares one history entry, which `settle` (Enter) ends. */
function go(q, { typed = false, settle = false } = {}) {
  if (q !== address().q || !typed || failed) {
    cacheResult();
    const step = typed && history.state?.typed ? "replaceState" : "pushState";
    history[step]({ typed }, "", href(q));
    box.show(q, { typed });
    search(q, { typed: typed && !settle });
  }
  if (!settle) return;
  history.replaceState({}, "", location.href);
  if (pendingError) showError(pendingError);
}

function cacheResult() {
  if (result.q === null || result.random !== null) return;
  cache.delete(result.q);
  cache.set(result.q, { ...result, y: scrollY });
  if (cache.size > CACHED_RESULTS) cache.delete(cache.keys().next().value);
}

async function route() {
  const { q, random, id } = address();
  if (random === "") return surprise({ replace: true });
  if (q !== result.q || random !== result.random) {
    cacheResult();
    box.show(q);
    const cached = random === null && cache.get(q);
    if (cached) {
      searching?.abort();
      present(cached, { y: cached.y });
    } else await search(q, { random, ...(result.q === null && savedPosition()) });
  }
  if (!id) viewer?.close();
  else if (viewer?.shown?.id !== id) {
    const i = grid.indexOf(id);
    const hit = grid.item(i) ?? (await ask(`api/images/${id}`).catch((error) => toast(error.message)));
    if (!hit || address().id !== id) return;
    await openPhoto(hit, i);
    // A photo from a link, which the first page does not show.
    if (i < 0 && await find(id) && viewer.shown?.id === id) viewer.place(grid.indexOf(id));
  }
}
addEventListener("popstate", route);
history.scrollRestoration = "manual";

// A reload, and Back from another page, return to the same position.
addEventListener("pagehide", () => {
  try {
    sessionStorage.setItem("position", JSON.stringify({ at: location.href, y: scrollY, k: result.received - (result.base ?? 0), base: result.base ?? 0 }));
  } catch { /* storage is disabled */ }
});

/** The scroll position of this address before the page was reloaded, and the results it needs. */
function savedPosition() {
  if (performance.getEntriesByType("navigation")[0]?.type === "navigate") return {};
  try {
    const { at, y, k, base } = JSON.parse(sessionStorage.getItem("position"));
    return at === location.href ? { y, base, k: Math.min(MAX_PAGE_SIZE, Math.max(PAGE_SIZE, k)) } : {};
  } catch {
    return {}; // none is stored
  }
}

// -- results

const page = (q, offset, { signal, k = PAGE_SIZE } = {}) =>
  ask(`api/search?${new URLSearchParams({ q, k, offset })}`, { signal });

async function search(q, { random = null, typed = false, retried = false, y = 0, k = PAGE_SIZE, base = 0 } = {}) {
  searching?.abort();
  clearTimeout(errorTimer);
  pendingError = failed = null;
  const { signal } = (searching = new AbortController());
  document.body.classList.add("searching");
  try {
    const found = await (random !== null ? ask(`api/random?k=${PAGE_SIZE}&seed=${random}`, { signal }) : page(q, base, { signal, k }));
    const order = tokens(q).find((token) => token.startsWith("sort:"))?.slice(5);
    const { hits, good } = found, total = random !== null ? hits.length : found.total;
    const own = good == null && !order && collection(q);
    present({
      ...found, q, random, hits, total, order, own, base, received: base + hits.length,
      good: good ?? null, unranked: good == null,
      dated: random === null && !own && (good == null || order === "newest" || order === "oldest"),
    }, { y });
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error instanceof Unreachable) {
      failed = { q, random };
      status.losing();
    }
    if (error.status < 500 && !retried && /upload:/.test(q)) {
      // The server has restarted and lost the uploads.
      const renewed = await load("uploads.js", "terms.js").then((uploads) => uploads.uploadAgain(q)).catch((lost) => void (error = lost));
      if (renewed) {
        history.replaceState({}, "", href(renewed));
        box.show(renewed);
        return search(renewed, { retried: true });
      }
    }
    // A filter may be incomplete while it is being typed.
    if (typed) errorTimer = setTimeout(showError, ERROR_DELAY, (pendingError = error));
    else showError(error);
  } finally {
    if (searching?.signal === signal) document.body.classList.remove("searching");
  }
}

/** Whether the query is one collection, which has its own order. */
const collection = (q) => tokens(q).filter((token) => /^collection:/i.test(token)).length === 1;

/** A server message as a sentence; a filter at its start keeps its case. */
const sentence = (text) => text.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase()) + (/[.:!?]$/.test(text) ? "" : ".");

let errorTimer, pendingError = null, failed = null;

function showError({ message, status: code }) {
  clearTimeout(errorTimer);
  notice(message, "bad");
  if (code === 401) {
    const next = location.pathname + location.search + location.hash;
    $("notice").replaceChildren(...pieces("page.signed_out", { link: h("a", { href: `signin?${new URLSearchParams({ next })}` }, t("page.sign_in_again")) }));
  }
  announce(message);
}

/** The server answers again: what failed is repeated. */
function onReturn() {
  if (failed) {
    box.show(failed.q, { typed: true });
    search(failed.q, failed);
  } else grid.retry();
}

function notice(text, kind = "") {
  $("notice").textContent = text ? sentence(text) : "";
  $("notice").hidden = !text;
  $("notice").className = `notice ${kind}`;
}

function present(next, { y = 0 } = {}) {
  if (next.q !== result.q) selection.clearFeedback();
  result = next;
  const { q, hits, total, took_ms: took, unranked, order, own } = result, random = result.random !== null;
  const weak = result.nothing_matches && !!hits.length;
  document.title = q ? `${split(q).text || t("page.photos_title")} · Sightline` : "Sightline";
  inQuery.clear();
  for (const { kind, ref, weight } of split(q).images.map(imageTerm)) if (kind === "like") inQuery.set(Number(ref.split("@")[0]), weight);
  // The photo that others are searched with is none of them.
  const itself = inQuery.size === 1 && !split(q).text.replace(/\b(?:sort|match):\w+/g, "").trim() && inQuery.has(hits[0]?.id) ? 1 : 0;
  const about = result.good_is_estimated;
  const good = unranked ? null : result.good - (about ? 0 : itself);
  const empty = !hits.length && !q && !random;
  if ($("empty")) $("empty").hidden = !empty;
  document.body.classList.toggle("home", empty);
  let summary = !total ? (q ? t("page.no_photos") : "") : weak || good === 0 ? t("page.no_strong_matches")
    : unranked ? t("page.photos", { count: total }) : about ? t("page.about_matches", { good }) : t("page.strong_matches", { count: good });
  if (random) summary = t("page.random");
  $("summary").replaceChildren(summary, " ", h("small", {}, empty ? "" : [
    !unranked && total && t("page.of_total", { total: total - itself }),
    unranked && total && !random && t(own ? "page.own_order" : order === "oldest" ? "page.oldest_first" : "page.newest_first")].filter(Boolean).join(" · ")));
  $("status-open").dataset.took = took ?? "";
  const message = result.message ?? (q && !hits.length ? t("page.no_match") : null);
  notice(empty && $("empty") ? "" : message);
  $("shuffle").hidden = !!q || empty;
  $("shuffle").setAttribute("aria-pressed", String(!!random));
  $("months").hidden = empty || random || $("timeline").classList.contains("none");
  const sort = $("sort");
  const byDate = (result.byDate = unranked && !collection(q));
  sort.options[0].hidden = sort.options[0].disabled = byDate;
  sort.options[0].textContent = unranked && !byDate ? t("page.collection_order") : bestMatch;
  sort.value = order ?? (byDate ? "newest" : "relevance");
  sort.parentNode.hidden = random || empty;
  // Without strong matches there are no labels and months, and no space for them; the months of an
  // empty range lead out of it.
  const bare = weak || (!total && !dateRange(q).after);
  document.body.classList.toggle("bare", bare);
  grid.set(result);
  scrollTo(0, y);
  atEnd();
  announce(message ?? $("summary").textContent);
  if (q && !y) offerCorrection(result);
  if (!$("facets").hidden) facets().then((bar) => bar.show(random || bare ? null : q), () => null);
  if (!random && !bare) showTimeline(q);
  showDates();
  box.showDates((result.interpreted ?? []).filter(({ applied }) => applied));
  $("star").hidden = !q || !keeps;
  $("star").setAttribute("aria-pressed", "false");
  clearTimeout(remembering);
  if (q && hits.length) remembering = setTimeout(() => load("searches.js", "kept.js", "icons.js", "strings.kept.js").then(({ remember }) => remember(q), () => null), RECENT_DELAY);
}

/** Offers a correction of a misspelt word or an unknown filter, and a date that words may mean, beside the
 * count or the notice. */
const offerCorrection = debounce(CORRECTION_PAUSE, async (now) => {
  const { correction } = now === result ? await ask(`api/correction?q=${encodeURIComponent(now.q)}`).catch(() => ({})) : {};
  if (now !== result) return;
  const offers = (now.interpreted ?? []).filter(({ applied }) => !applied).map(({ filter, other }) => [t("page.taken", { when: filter.replaceAll("date:", "") }), other]);
  if (correction) offers.push([t("page.did_you_mean", { text: correction.text }), correction.query]);
  for (const [text, query] of offers) {
    ($("notice").hidden ? $("summary") : $("notice")).append(" ", h("button", { type: "button", class: "pill", onclick: () => go(query) }, text));
    announce(text);
  }
});

const keeps = "keeps" in $("main").dataset, bestMatch = $("sort").options[0].textContent;
let remembering;

const complete = () => result.q === null || result.random !== null || result.received >= result.total;

/** Loads the next page of results; a call while it is loading waits for it. */
function more({ k = PAGE_SIZE } = {}) {
  if (complete()) return null;
  return (loading ??= append(result, k).finally(() => (loading = null)));
}

async function append(now, k) {
  try {
    const { hits } = await page(now.q, now.received, { k });
    if (now !== result) return;
    now.received = hits.length < k ? now.total : now.received + hits.length; // a stack counts as one hit
    now.known ??= new Set(now.hits.map(({ id }) => id));
    grid.append(hits.filter(({ id }) => !now.known.has(id) && now.known.add(id)));
    atEnd();
  } catch (error) {
    now.stopped = true;
    if (error instanceof Unreachable) status.losing();
    toast(error.message);
  }
}

// Jumps to results that are not loaded: by date, to either end, to one photo.
const jumps = once(() => load("jumps.js", "order.js").then(({ createJumps }) => createJumps({
  grid, page, complete, pageSize: PAGE_SIZE,
  get result() { return result; },
  /** A window on the same results. */
  show(hits, from, received) {
    result = { ...result, hits, base: from, received, known: null };
    grid.set(result);
    atEnd();
  },
})));
const edge = async (step) => (step < 0 ? !!result.base : !complete()) && (await jumps()).edge(step);
const find = async (id) => (await jumps()).find(id);
let dates = null; // along the right edge, once results by date are scrolled
const showDates = () => dates?.(result.dated && result.total > PAGE_SIZE ? result.q : null);
addEventListener("scroll", debounce(50, async () => {
  if (dates || !result.dated || result.total <= PAGE_SIZE || scrollY < innerHeight / 2) return;
  dates = (await jumps()).dates;
  showDates();
}), { passive: true });

function atEnd() {
  $("end").hidden = result.received < result.total || result.hits.length < 12;
  $("end").textContent = t("page.end");
}

/** The library grew or shrank by `change` images while the page was open. */
function onCountChange(change, before) {
  load("order.js").then(({ forgetOrder }) => forgetOrder(), () => null);
  if (!before || (!result.q && result.random === null && scrollY < 200 && !viewer?.shown)) search(result.q ?? "", { random: result.random });
  else if (change > 0) {
    $("summary").append(" ", h("button", { type: "button", class: "pill", title: t("page.refresh"), onclick: () => search(result.q) }, t("page.new_photos", { count: change })));
  }
}

/** Whether `key` is an action on result `i`; runs it. */
function act(key, i) {
  const hit = grid.item(i);
  if (key === "x" || key === " " || key === "select") selection.select([hit]);
  else if (key === "s") go(`like:${hit.id}`);
  else if (key === "f") selection.favourite([hit.id]);
  else if (key === "+" || key === "=") selection.setFeedback(hit.id, 1);
  else if (key === "-") selection.setFeedback(hit.id, -1);
  else if ((key === "stack" || key === "e") && hit.duplicates?.length) load("stacks.js").then(({ toggleStack }) => toggleStack(grid, i));
  else return false;
  return true;
}

// -- the lightbox

let viewer = null;
const loadViewer = once(async () => {
  const [{ createViewer }] = await Promise.all([load("viewer.js", "lightbox.js", "stage.js", "tools.js", "icons.js", "strings.photo.js", "strings.actions.js"), loadStyles("lightbox.css")]);
  return (viewer = createViewer({
    grid, selection, go, more, keeps,
    result: () => result,
    find,
    openId: () => address().id,
    hrefOf: (id) => (result.random === null ? href(result.q, id) : `./?random=${result.random}${id ? `#${id}` : ""}`),
  }));
});
for (const name of ["pointerover", "focusin"]) $("results").addEventListener(name, () => loadViewer().catch(() => null), { once: true });

const openPhoto = async (hit, i, push = false) => (await loadViewer()).open(hit, i, { push });

// -- toolbar and keyboard

$("sort").addEventListener("change", ({ target: { value } }) => {
  const standard = result.byDate ? "newest" : "relevance";
  go(setting(result.q, "sort", value === standard ? "" : value));
});
/** Shows a random selection; its seed is in the address. */
function surprise({ replace = false } = {}) {
  const random = String(crypto.getRandomValues(new Uint32Array(1))[0] >>> 1);
  cacheResult();
  history[replace ? "replaceState" : "pushState"]({}, "", `./?random=${random}`);
  return search("", { random });
}
$("shuffle").addEventListener("click", () => surprise());
$("months").addEventListener("click", () => toggleTimeline($("timeline").hidden));
function toggleTimeline(on) {
  $("timeline").hidden = !on;
  $("months").setAttribute("aria-pressed", String(on));
  try { localStorage.setItem("months", on ? "1" : ""); } catch { /* storage is disabled */ }
  grid.relayout();
  showTimeline(result.q ?? "");
}
$("size").addEventListener("click", async () => {
  const name = t(["page.size_small", "page.size_medium", "page.size_large"][await grid.cycleSize()]);
  $("size").setAttribute("aria-label", name);
  announce(name);
});
$("star").addEventListener("click", async () => (await load("searches.js", "kept.js", "icons.js", "strings.kept.js")).saveMenu($("star"), result.q));
$("q").addEventListener("focus", () => load("searches.js", "kept.js", "icons.js", "strings.kept.js")
  .then(({ createStart }) => createStart({ input: $("q"), go, keeps }).show(), () => null), { once: true });
if ($("empty")) load("icons.js");
$("copy-command")?.addEventListener("click", async () => (await load("tools.js")).copy("sightline index ~/Pictures", t("page.copied")));
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
  else if (key === "ArrowDown" && event.target === $("q")) grid.focus();
  else if (typing || event.altKey) return;
  else if (key === "a" && control && (selection.size || $("results").contains(document.activeElement))) selection.selectAll(result.random === null ? null : grid.items).catch((error) => toast(error.message));
  else if (control) return;
  else if (key === "/") box.focus();
  else if (key === "?") status.help();
  else if (key === "r") selection.refine();
  else if (key === "ArrowDown" && [document.body, $("results")].includes(document.activeElement)) grid.focus();
  else return;
  event.preventDefault();
});

let open = matchMedia("(min-width: 800px)").matches ? "1" : "";
try { open = localStorage.getItem("months") ?? open; } catch { /* storage is disabled */ }
$("timeline").hidden = !open;
$("months").setAttribute("aria-pressed", String(!!open));
route().then(status.poll);
