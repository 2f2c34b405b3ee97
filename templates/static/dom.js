// Small tools for the page: making elements, asking the server, saying things.

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

/** A button with an icon; its name is what a screen reader and the tooltip say. */
export const button = (name, label, onclick, props = {}) =>
  h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick, ...props }, icon(name));

const sheets = new Map();

/** Loads a style sheet that is not needed at first sight; settled when it holds. */
export function sheet(name) {
  if (!sheets.has(name)) sheets.set(name, new Promise((done) => {
    const href = new URL(name, import.meta.url).href;
    document.head.append(h("link", { rel: "stylesheet", href, onload: done, onerror: done }));
  }));
  return sheets.get(name);
}

/** Sets styles through the CSSOM, which the page's content security policy lets through. */
export function style(node, values) {
  for (const [name, value] of Object.entries(values)) node.style.setProperty(name, value);
}

/** The server's answer as an object; throws an Error with the server's own line when it refuses. A
 * busy server says when to come again, and is asked twice more. What cannot be understood or found is
 * said inside an answer of status 200: browsers write all others into their console. */
export async function ask(path, options, tries = 2) {
  const answer = await fetch(path, { ...options, headers: { "Sightline-Errors": "inside" } }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("The server does not answer. Is it still running?");
  });
  const wait = Number(answer.headers.get("Retry-After"));
  if (answer.status === 503 && wait && tries) {
    await new Promise((done) => setTimeout(done, 1000 * Math.min(wait, 3)));
    return ask(path, options, tries - 1);
  }
  // A search that is given up while its answer arrives ends here too: that must not look like {}.
  const body = await answer.json().catch((error) => {
    if (answer.ok) throw error;
    return {};
  });
  if (answer.ok && !body.error) return body;
  throw Object.assign(new Error(body.error ?? `The server answered ${answer.status}.`), { status: body.status ?? answer.status });
}

export function later(wait, work) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(work, wait, ...args);
  };
}

/** A dialog hides what is outside it, also from those who listen: it is said inside, then. */
function say(id, text) {
  const node = $(id), place = document.querySelector("dialog[open]") ?? document.body;
  if (node.parentNode !== place) place.append(node);
  node.textContent = text;
  node.hidden = false;
}

export const announce = (text) => setTimeout(say, 50, "live", text);

const hide = later(3500, () => ($("toast").hidden = true));

export function toast(text) {
  say("toast", text);
  hide();
}

export const number = (n) => n.toLocaleString("en");
export const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;
export const matches = (n) => `${number(n)} good match${n === 1 ? "" : "es"}`;

const formats = new Map(); // to make one takes longer than to use it a hundred times

/** Dates are the camera's own local time without a zone: shown as written, never shifted. */
export function date(text, options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en", options));
  return formats.get(key).format(new Date(text));
}
