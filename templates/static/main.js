// The page: the address holds the query, the query makes the results, the results fill the grid.
import { $, announce, ask, button, h, matches, number, plural, sheet, toast } from "./dom.js";
import { picture, setting, split, tokens } from "./query.js";
import { createBox } from "./box.js";
import { createFacets } from "./facets.js";
import { createGrid } from "./grid.js";
import { createSelection } from "./selection.js";
import { createStatus } from "./status.js";

const PAGE = 120;
const KEPT = 8;
const PATIENCE = 1200;

let result = { q: null, hits: [], total: 0 };
let searching = null, loading = false;
const kept = new Map(); // results of earlier searches, so that going back is instant

const actions = h("div", { class: "actions" },
  ...[["check", "choose", "Choose (x)"], ["similar", "s", "Similar pictures (s)"], ["plus", "+", "More like this (+)"], ["minus", "-", "Less like this (−)"]]
    .map(([name, does, label]) => button(name, label, null, { "data-do": does })));

const marked = new Map(); // pictures that are part of the query, by id
const selection = createSelection({
  query: () => result.q,
  onQuery: (q) => go(q),
  onChange() {
    $("results").classList.toggle("choosing", selection.size > 0);
    grid.paint();
  },
});
const grid = createGrid({
  actions,
  onNeed: more,
  onOpen: (i) => look(grid.item(i), i, true),
  onChoose: (from, to, on) => selection.choose(grid.slice(from, to), on),
  onKey: act,
  stateOf: ({ id }) => ({ chosen: selection.has(id), mark: selection.mark(id) ?? marked.get(id) }),
});
const facets = createFacets({ onQuery: (q) => go(q) });
const status = createStatus({ onGrown: grown });
const box = createBox({ onQuery: (q, how) => go(q, how) });

// -- the address

const address = () => ({
  q: new URLSearchParams(location.search).get("q") ?? "",
  random: new URLSearchParams(location.search).has("random"),
  id: Number(location.hash.slice(1)) || null,
});
const href = (q, id = null) => (q ? `/?${new URLSearchParams({ q })}` : "/") + (id ? `#${id}` : "");

let timeline = null;

/** The months are drawn where they are wanted: not on a phone, until asked for. */
async function months(q) {
  if ($("timeline").hidden) return;
  timeline ??= import("./timeline.js").then(({ createTimeline }) => createTimeline({ onQuery: (to) => go(to) }));
  (await timeline).show(q);
}

/** Goes to a query. One stretch of typing is one step of the history, everything else its own. */
function go(q, { typed = false, settle = false } = {}) {
  if (settle) return settled();
  remember();
  const step = typed && history.state?.typed ? "replaceState" : "pushState";
  history[step]({ typed }, "", href(q));
  box.show(q, { typed });
  search(q, { typed });
}

/** Enter: this step of the history is done, and what was held back is said. */
function settled() {
  history.replaceState({}, "", location.href);
  if (held) complain(held);
}

function remember() {
  if (result.q === null || result.random) return;
  kept.delete(result.q);
  kept.set(result.q, { ...result, y: scrollY });
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
}

async function route() {
  const { q, random, id } = address();
  if (q !== result.q || random !== !!result.random) {
    remember();
    box.show(q);
    const earlier = !random && kept.get(q);
    if (earlier) {
      searching?.abort();
      present(earlier, { y: earlier.y });
    } else await search(q, { random });
  }
  if (!id) viewer?.close();
  else if (viewer?.shown?.id !== id) {
    const i = grid.indexOf(id);
    const hit = grid.item(i) ?? (await ask(`/api/images/${id}`).catch((error) => toast(error.message)));
    if (hit && address().id === id) look(hit, i);
  }
}
addEventListener("popstate", route);
history.scrollRestoration = "manual";

// -- results

const page = (q, offset, signal) =>
  ask(`/api/search?${new URLSearchParams({ q, k: PAGE, offset })}`, { signal });

async function search(q, { random = false, typed = false } = {}) {
  searching?.abort();
  clearTimeout(complaint);
  held = null;
  const { signal } = (searching = new AbortController());
  document.body.classList.add("searching");
  try {
    const found = random ? await ask(`/api/random?k=${PAGE}`, { signal }) : await page(q, 0, signal);
    const order = tokens(q).find((token) => token.startsWith("sort:"))?.slice(5);
    const { hits, good } = found, total = random ? hits.length : found.total;
    present({
      ...found, q, random, hits, total, order, received: hits.length,
      good: good ?? null, plain: good == null,
      line: good != null && good < total ? good : null,
      dated: !random && (good == null || order === "newest" || order === "oldest"),
    });
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status < 500 && /upload:/.test(q) && !search.again) {
      search.again = true;
      try {
        const fresh = await (await import("./pictures.js")).again(q);
        history.replaceState({}, "", href(fresh));
        box.show(fresh);
        await search(fresh);
        return;
      } catch (lost) {
        error = lost;
      } finally {
        search.again = false;
      }
    }
    // A filter that is still being written is not yet wrong.
    if (typed) complaint = setTimeout(complain, PATIENCE, (held = error.message));
    else complain(error.message);
  } finally {
    if (searching?.signal === signal) document.body.classList.remove("searching");
  }
}

/** The server's lines begin small and end without a stop; here they stand alone. */
const sentence = (text) => text.replace(/^[a-z]+(?= )/, (word) => word[0].toUpperCase() + word.slice(1)) + (/[.!?]$/.test(text) ? "" : ".");

let complaint, held = null;

function complain(message) {
  clearTimeout(complaint);
  notice(message, "bad");
  announce(message);
}

function notice(text, kind = "") {
  $("notice").textContent = text ? sentence(text) : "";
  $("notice").hidden = !text;
  $("notice").className = `notice ${kind}`;
}

function present(next, { y = 0 } = {}) {
  if (next.q !== result.q) selection.forgetMarks();
  result = next;
  const { q, hits, total, good, took_ms: took, plain, random, order } = result;
  const nothing = result.nothing_matches && !!hits.length;
  document.title = q ? `${split(q).text || "Pictures"} · Sightline` : "Sightline";
  marked.clear();
  for (const part of split(q).pictures.map(picture)) if (part.kind === "like") marked.set(Number(part.ref.split("@")[0]), part.weight);
  const empty = !hits.length && !q && !random;
  if ($("empty")) $("empty").hidden = !empty;
  document.body.classList.toggle("home", empty);
  let summary = !total ? (q ? "No pictures" : "") : nothing ? "No good match" : plain ? plural(total, "picture") : matches(good);
  if (random) summary = "A few at random";
  $("summary").replaceChildren(summary, h("small", {}, empty ? "" : [
    !plain && total && `of ${number(total)}`, plain && total && !random && (order === "oldest" ? "oldest first" : "newest first"),
    q && took != null && `${took < 10 ? took.toFixed(1) : Math.round(took)} ms`].filter(Boolean).join(" · ")));
  const said = result.message ?? (nothing ? "Nothing really matches. These come closest."
    : q && !hits.length ? "No picture meets these filters." : null);
  notice(empty && $("empty") ? "" : said);
  $("shuffle").hidden = !!q || empty;
  $("shuffle").setAttribute("aria-pressed", String(!!random));
  $("months").hidden = empty || random;
  const sort = $("sort");
  sort.options[0].hidden = sort.options[0].disabled = plain;
  sort.value = order ?? (plain ? "newest" : "relevance");
  sort.parentNode.hidden = random || empty;
  grid.set(result);
  scrollTo(0, y);
  atEnd();
  announce(said ?? $("summary").textContent);
  // Of nothing there are no labels and no months: no room is kept for them.
  const bare = !total || nothing;
  document.body.classList.toggle("bare", bare);
  facets.show(random || bare ? null : q);
  if (!random && !bare) months(q);
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
  $("end").textContent = "That is all.";
}

/** The library grew or shrank while the page was open. */
function grown(by, before) {
  if (!before || (!result.q && !result.random && scrollY < 200 && !viewer?.shown)) search(result.q ?? "", { random: result.random });
  else if (by > 0) {
    const title = "Search again";
    $("summary").append(" ", h("button", { type: "button", class: "pill", title, onclick: () => search(result.q) }, plural(by, "new picture")));
  }
}

// -- what can be done with one result

function act(key, i) {
  const hit = grid.item(i);
  if (key === "x" || key === " " || key === "choose") selection.choose([hit]);
  else if (key === "s") go(`like:${hit.id}`);
  else if (key === "+" || key === "=") selection.setMark(hit.id, 1);
  else if (key === "-") selection.setMark(hit.id, -1);
  else if (key === "stack") import("./stacks.js").then(({ turnStack }) => turnStack(grid, i));
  else return false;
  return true;
}

// -- the lightbox

let viewer = null, arriving = null;

function prepare() {
  arriving ??= Promise.all([import("./viewer.js"), sheet("lightbox.css")]).then(([{ createViewer }]) => (viewer = createViewer({
    grid, selection, go, more,
    result: () => result,
    id: () => address().id,
    href: (id) => (result.random ? `/?random${id ? `#${id}` : ""}` : href(result.q, id)),
  })));
  return arriving;
}
for (const name of ["pointerover", "focusin"]) $("results").addEventListener(name, prepare, { once: true });

const look = async (hit, i, push = false) => (await prepare()).open(hit, i, { push });

// -- the bar, the keys

$("sort").addEventListener("change", ({ target: { value } }) => {
  const usual = result.plain ? "newest" : "relevance";
  go(setting(result.q, "sort", value === usual ? "" : value));
});
$("shuffle").addEventListener("click", () => {
  history.pushState({}, "", "/?random");
  search("", { random: true });
});
$("months").addEventListener("click", () => showMonths($("timeline").hidden));
function showMonths(on) {
  $("timeline").hidden = !on;
  $("months").setAttribute("aria-pressed", String(on));
  try { localStorage.setItem("months", on ? "1" : ""); } catch { /* for this page only */ }
  grid.relayout();
  months(result.q ?? "");
}
if ($("empty")) import("./icons.js");
$("copy-command")?.addEventListener("click", async () => (await import("./tools.js")).copy("sightline index ~/Pictures", "Copied"));
document.querySelector(".brand").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go("");
});

addEventListener("keydown", (event) => {
  const writing = event.target.closest?.("input:not([type=range]),select,textarea");
  if (document.querySelector("dialog[open]")) return;
  const { key } = event, control = event.ctrlKey || event.metaKey;
  if (key === "Escape" && !writing) selection.clear();
  else if (key === "Escape") event.target.blur();
  else if (key === "k" && control) box.focus();
  else if (key === "ArrowDown" && event.target === $("q")) grid.focus(0);
  else if (writing || event.altKey) return;
  else if (key === "a" && control && $("results").contains(document.activeElement)) selection.choose(grid.items, true);
  else if (control) return;
  else if (key === "/") box.focus();
  else if (key === "?") status.help();
  else if (key === "r") selection.refine();
  else if (key === "ArrowDown" && document.activeElement === document.body) grid.focus(0);
  else return;
  event.preventDefault();
});

let wanted = matchMedia("(min-width: 800px)").matches;
try { wanted = (localStorage.getItem("months") ?? (wanted ? "1" : "")) === "1"; } catch { /* the usual */ }
$("timeline").hidden = !wanted;
$("months").setAttribute("aria-pressed", String(wanted));
route().then(status.look);
