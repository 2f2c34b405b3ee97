// The two panels: the status of the library, and help.
import { $, ask, button, h, number, pieces, t } from "./dom.js";
import "./strings.panels.js";
import { bytes } from "./tools.js";

const MAX_FAILURES = 100;
const LANGUAGE_DAYS = 365; // that the choice of a language is kept

/** What the query language understands -> the text that explains it. */
const QUERIES = {
  "dog on a beach": "own_words", '-people -"a crowd"': "less_of_this", "2:golden light": "double_weight", "in:Holidays": "folder",
  "date:2023-06": "date", "beach july 2023": "date_words", "after:2023-06 before:2024": "after_before", "camera:iphone lens:50mm": "camera_lens",
  "type:png is:portrait": "format_shape", "near:48.85,2.35,5": "near", "rating:4 keyword:family": "stars_keywords",
  "person:Ada": "person", "text:invoice text:inv*": "text", "place:Lisbon country:pt": "place", "name:IMG_20 label:cat": "name_label",
  "-in:Screenshots": "invert", "match:all": "match_all", "sort:newest": "sort", '"in: the box"': "quoted",
};
const KEYS = [
  [["/"], "search_box"], [["←", "→", "↑", "↓"], "move"], [["Enter"], "open"], [["x"], "select"], [["f"], "favourite"],
  [["Ctrl", "A"], "select_all"], [["s"], "similar"], [["e"], "stack"], [["Home", "End"], "ends"], [["+", "−"], "feedback"], [["Esc"], "close"],
];
const PHOTO_KEYS = [
  [["←", "→"], "steps"], [["+", "−", "0"], "zoom"], [["c"], "crop"], [["f"], "favourite"], [["p"], "slideshow"], [["i"], "details"],
];

function milliseconds(n) {
  const digits = n < 10 ? 1 : 0;
  return number(n, { style: "unit", unit: "millisecond", minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function createPanels() {
  const panels = { status: panel("status", t("panels.library")), help: panel("help", t("panels.help")) };
  let failed = { count: 0, rows: [] }, started = null;
  panels.status.dialog.append(languageMenu());

  function panel(id, title) {
    const body = h("div", { id: `${id}-body` });
    const dialog = h("dialog", { class: "sheet", id, "aria-labelledby": `${id}-title`, onclick: (event) => event.target === dialog && dialog.close() },
      h("header", {}, h("h2", { id: `${id}-title` }, title), button("close", t("panels.close"), () => dialog.close())), body);
    document.body.append(dialog);
    return { dialog, body };
  }

  async function open(name, status) {
    const { dialog, body } = panels[name];
    if (!dialog.open) dialog.showModal();
    if (name === "status") return draw(status);
    if (!body.childElementCount) body.append(help());
  }

  function help() {
    const line = (name, text) => h("div", {}, h("dt", {}, ...name), h("dd", {}, ...text));
    const keys = (list) => h("dl", { class: "lines keys" }, ...list.map(([names, text]) => line(
      names.map((name) => h("kbd", {}, name)), pieces(`panels.key_${text}`, { r: h("kbd", {}, "r") }))));
    return h("div", { class: "columns" },
      h("section", {}, h("h3", {}, t("panels.search")), h("p", {}, t("panels.search_help")),
        h("dl", { class: "lines" }, ...Object.entries(QUERIES).map(([query, text]) => line([query], pieces(`panels.query_${text}`))))),
      h("section", {}, h("h3", {}, t("panels.keyboard")), keys(KEYS), h("h3", {}, t("panels.open_photo")), keys(PHOTO_KEYS)));
  }

  /** The choice of the page's language, kept in a cookie that the server reads. */
  function languageMenu() {
    const chosen = document.cookie.match(/(?:^|; )language=(\w+)/)?.[1] ?? "";
    const option = (value, text) => h("option", { value, lang: value || null, selected: value === chosen }, text);
    const languages = JSON.parse($("status-open").dataset.languages);
    return h("div", {}, h("label", { class: "language" }, t("panels.language"), " ", h("span", { class: "pill select" }, h("select", {
      id: "language",
      onchange({ target: { value } }) {
        document.cookie = `language=${value}; path=${new URL("./", location).pathname}; max-age=${value ? LANGUAGE_DAYS * 86_400 : 0}; samesite=lax`;
        location.reload();
      },
    }, option("", t("panels.browser_language")), ...Object.entries(languages).map(([code, name]) => option(code, name))))));
  }

  /** The time left of a run, from its pace since this page first saw it. */
  function timeLeft({ done = 0, total }) {
    if (!started || started.done > done) started = { done, at: Date.now() };
    const seconds = (Date.now() - started.at) / 1000, pace = (done - started.done) / seconds;
    if (!total || seconds < 5 || !pace) return "";
    const rest = (total - done) / pace;
    return rest < 5400 ? t("panels.minutes_left", { count: Math.max(1, Math.round(rest / 60)) })
      : t("panels.hours_left", { count: Math.round(rest / 3600) });
  }

  async function draw(status) {
    const { run, index = {}, failures } = status, { took } = $("status-open").dataset;
    const row = (name, value) => value != null && value !== "" && h("div", {}, h("dt", {}, name), h("dd", {}, value));
    const body = [h("dl", { class: "facts" },
      row(t("panels.photos"), number(status.images)),
      row(t("panels.model"), [status.model, status.dimension && t("panels.dimensions", { number: status.dimension })].filter(Boolean).join(", ")),
      row(t("panels.index"), [index.type, index.bytes && bytes(index.bytes), index.pending && t("panels.pending", { number: index.pending })].filter(Boolean).join(", ")),
      row(t("panels.folders"), status.roots?.map((root) => root.path ?? root).join(", ")),
      row(t("panels.library_folder"), status.library),
      row(t("panels.last_search"), took && milliseconds(Number(took))))];
    if (!run) started = null;
    else {
      const { done = 0, total } = run;
      const title = h("strong", {}, run.model ? t("panels.changing_model", { model: run.model }) : t("panels.indexing_photos"));
      body.unshift(h("div", { class: "progress" }, h("p", { id: "progress-name" },
        ...pieces(total ? "panels.indexing_of" : "panels.indexing", { title, done, total }), timeLeft(run) && ` · ${timeLeft(run)}`),
      h("progress", { "aria-labelledby": "progress-name", ...(total ? { max: total, value: done } : {}) })));
    }
    if (failures) {
      if (failed.count !== failures) failed = { count: failures, rows: (await ask("api/failures").catch(() => ({}))).failures ?? [] };
      body.push(h("h3", {}, t("panels.not_read", { count: failures })), h("ul", { class: "failures" },
        ...failed.rows.slice(0, MAX_FAILURES).map(({ path, reason }) => h("li", {}, h("code", {}, path), h("span", {}, reason)))),
      failures > MAX_FAILURES && h("p", {}, h("a", { href: "failures" }, t("panels.show_all"))));
    }
    body.push(h("p", {}, h("a", { href: "duplicates" }, t("panels.duplicates"))));
    panels.status.body.replaceChildren(...body.filter(Boolean));
  }

  return { open, update: (status) => panels.status.dialog.open && draw(status) };
}
