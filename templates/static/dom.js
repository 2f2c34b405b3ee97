// Helpers for the page: elements, requests, messages, formats.

/** Milliseconds after which loading is shown. */
const SLOW = 150;

export const $ = (id) => document.getElementById(id);

/** h("li", {class: "tile", onclick: f, "aria-label": "…"}, child, "text"): an element. */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && !name.startsWith("aria")) node[name] = value;
    else node.setAttribute(name === "class" ? "class" : name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon; `label` is its tooltip and accessible name. */
export const button = (name, label, onclick, props = {}) =>
  h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick, ...props }, icon(name));

// -- the texts of the page, in its language

const { lang: language, dir } = document.documentElement;
const texts = {}, plurals = new Intl.PluralRules(language);

/** Adds a section of the texts: what a module strings.SECTION.js does, which the server makes from
 * templates/strings. */
export function addTexts(section, added) {
  for (const [key, text] of Object.entries(added)) texts[`${section}.${key}`] = text;
}

export const number = (n, options) => n.toLocaleString(language, options);

/** Where the arrow key to the right leads: to the next item, or where text runs from right to left, back. */
export const rightward = dir === "rtl" ? -1 : 1;

const written = (value) => (typeof value === "number" ? number(value)
  // Names from left to right keep their order and their punctuation among words from right to left.
  : rightward < 0 && typeof value === "string" ? `\u2068${value}\u2069` : value);

/** The text of "section.key" in pieces: `values` take the place of {{names}}, numbers as the language
 * writes them, elements as they are. `count` selects the plural form. */
export const pieces = (key, values = {}) => (texts[key] ?? texts[`${key}_${plurals.select(values.count)}`]).split(/{{(\w+)}}/)
  .map((piece, i) => (i % 2 ? written(values[piece]) : piece));
export const t = (...of) => pieces(...of).join("");

/** The server did not answer. Nothing is lost: an action that failed can be repeated. */
export class Unreachable extends Error {
  constructor() {
    super(t("page.unreachable"));
  }
}
// An action that nobody waits for fails here.
addEventListener("unhandledrejection", (event) => {
  if (!(event.reason instanceof Unreachable)) return;
  event.preventDefault();
  toast(event.reason.message);
});

/** `work`, done until it succeeds once; its result is kept. */
export function once(work) {
  let result = null;
  return () => (result ??= work().catch((error) => {
    result = null;
    throw error;
  }));
}

const fetched = new Set(["dom.js", "query.js", "strings.page.js"]), tries = new Map();
let loading = 0;

/** Puts a module and its imports into the browser's cache. */
async function prefetch(name, seen) {
  if (fetched.has(name) || seen.has(name)) return;
  seen.add(name);
  const answer = await fetch(new URL(name, import.meta.url)).catch(() => null);
  if (!answer?.ok) throw new Unreachable();
  const imports = (await answer.text()).matchAll(/(?:\bfrom|^import) "\.\/([\w.]+)"/gm);
  await Promise.all(Array.from(imports, ([, other]) => prefetch(other, seen)));
  fetched.add(name);
}

/** Imports a module that is not needed at first sight; `others` names imports of it, so that they are
 * requested at the same time. Browsers remember a failed import() for ever: so everything is fetched
 * first, and another attempt uses another URL. */
export async function load(name, ...others) {
  loading += 1;
  const slow = setTimeout(() => document.body.classList.add("waiting"), SLOW), seen = new Set();
  try {
    await Promise.all([name, ...others].map((one) => prefetch(one, seen)));
    const attempt = tries.get(name);
    return await import(new URL(attempt ? `${name}?${attempt}` : name, import.meta.url)).catch((error) => {
      if (!/module/i.test(error.message)) throw error;
      tries.set(name, (attempt ?? 0) + 1);
      throw new Unreachable();
    });
  } finally {
    clearTimeout(slow);
    loading -= 1;
    if (!loading) document.body.classList.remove("waiting");
  }
}

const styles = new Map();

/** Loads a style sheet that is not needed at first sight. */
export function loadStyles(name) {
  if (!styles.has(name)) styles.set(name, once(() => new Promise((done, fail) => {
    const link = h("link", { rel: "stylesheet", href: new URL(name, import.meta.url).href, onload: done });
    link.onerror = () => (link.remove(), fail(new Unreachable()));
    document.head.append(link);
  })));
  return styles.get(name)();
}

/** Sets styles through the CSSOM, which the content security policy allows. */
export function style(node, values) {
  for (const [name, value] of Object.entries(values)) node.style.setProperty(name, value);
}

/** The JSON answer; throws an Error with the server's message and `status`. A 503 with Retry-After is
 * retried twice. 400 and 404 arrive inside a 200, because browsers log every other status. */
export async function ask(path, options, retries = 2) {
  const answer = await fetch(path, { ...options, headers: { ...options?.headers, "Sightline-Errors": "inside" } }).catch((error) => {
    throw error.name === "AbortError" ? error : new Unreachable();
  });
  const wait = Number(answer.headers.get("Retry-After"));
  if (answer.status === 503 && wait && retries) {
    await new Promise((done) => setTimeout(done, 1000 * Math.min(wait, 3)));
    return ask(path, options, retries - 1);
  }
  if (answer.status === 401) throw Object.assign(new Error(t("page.signed_out", { link: t("page.sign_in_again") })), { status: 401 });
  // A request aborted while its body arrives rejects here, and must not look like {}.
  const body = await answer.json().catch((error) => {
    if (answer.ok) throw error;
    return {};
  });
  if (answer.ok && !body.error) return body;
  throw Object.assign(new Error(body.error ?? t("page.server_error", { status: String(answer.status) })), { status: body.status ?? answer.status });
}

export function debounce(wait, work) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(work, wait, ...args);
  };
}

/** An open dialog hides the rest of the page from screen readers: the message goes inside it. */
function showMessage(id, text) {
  const node = $(id), parent = document.querySelector("dialog[open]") ?? document.body;
  if (node.parentNode !== parent) parent.append(node);
  node.textContent = text;
  node.hidden = false;
}

/** Tells screen readers. */
export const announce = (text) => setTimeout(showMessage, 50, "live", text);

const hideToast = debounce(3500, () => ($("toast").hidden = true));

export function toast(text) {
  showMessage("toast", text);
  hideToast();
}

const formats = new Map(); // creating a DateTimeFormat is slow

/** Dates are the camera's local time without a zone: shown as written, never shifted. Of a partial one
    ("1943", "1962-08", "2004-03-07") only what is known is shown. */
export function date(text, options) {
  if (text.length === 4) return text;
  if (text.length === 7) [text, options] = [`${text}-01T00:00`, { month: "long", year: "numeric" }];
  if (text.length === 10) [text, options] = [`${text}T00:00`, { ...options, timeStyle: undefined }];
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(language, options));
  return formats.get(key).format(new Date(text));
}
