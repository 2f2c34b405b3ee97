// What is going on: the number in the corner, the panel about the library, the help.
import { $, ask, bytes, h, number, plural } from "./dom.js";

const CALM = 10_000, RUNNING = 1500;

export function createPanels({ onGrown }) {
  let status = {}, timer;

  async function look() {
    clearTimeout(timer);
    const before = status.images;
    try {
      status = await ask("/api/status");
      $("count").textContent = number(status.images);
      $("status-open").classList.toggle("running", !!status.run);
      if (before !== undefined && before !== status.images) onGrown(status.images - before, before);
      if ($("status").open) draw();
    } catch {
      // The server is away for a moment; the next search says so where it matters.
    }
    if (!document.hidden) timer = setTimeout(look, status.run ? RUNNING : CALM);
  }
  document.addEventListener("visibilitychange", () => document.hidden || look());

  const failed = new Map();

  async function draw() {
    const { run, index = {}, failures } = status;
    const row = (name, value) => value != null && value !== "" && h("div", {}, h("dt", {}, name), h("dd", {}, value));
    const body = [h("dl", { class: "facts" },
      row("Pictures", number(status.images)),
      row("Model", [status.model, status.dimension && `${status.dimension} numbers a picture`].filter(Boolean).join(", ")),
      row("Index", [index.type, index.bytes && bytes(index.bytes), index.pending && `${number(index.pending)} waiting`].filter(Boolean).join(", ")),
      row("Folders", status.roots?.map((root) => root.path ?? root).join(", ")),
      row("Library", status.library))];
    if (run) {
      const { done = 0, total } = run;
      body.unshift(h("div", { class: "progress" }, h("p", { id: "progress-name" }, h("strong", {}, "Reading pictures"),
        ` ${number(done)}${total ? ` of ${number(total)}` : ""}`),
      h("progress", { "aria-labelledby": "progress-name", ...(total ? { max: total, value: done } : {}) })));
    }
    if (failures) {
      if (failed.get("n") !== failures) {
        failed.set("rows", (await ask("/api/failures").catch(() => ({}))).failures ?? []);
        failed.set("n", failures);
      }
      const rows = failed.get("rows");
      body.push(h("h3", {}, `${plural(failures, "file")} could not be read`), h("ul", { class: "failures" },
        ...rows.slice(0, 100).map(({ path, reason }) => h("li", {}, h("code", {}, path), h("span", {}, reason)))),
      h("p", {}, h("a", { href: "/failures" }, "All of them, with reasons")));
    }
    body.push(h("p", {}, h("a", { href: "/duplicates" }, "Pictures that are the same")));
    $("status-body").replaceChildren(...body.filter(Boolean));
  }

  const showModal = (id) => $(id).open || $(id).showModal();

  async function help() {
    showModal("help");
    if (!$("help-body").childElementCount) $("help-body").innerHTML = await (await fetch(new URL("help.html", import.meta.url))).text();
  }

  $("status-open").addEventListener("click", () => (showModal("status"), draw()));
  $("help-open").addEventListener("click", help);
  for (const dialog of document.querySelectorAll("dialog.sheet")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
  }
  $("theme").addEventListener("click", () => {
    const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const theme = (root.dataset.theme ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
    root.dataset.theme = theme;
    try { localStorage.setItem("theme", theme); } catch { /* kept for this page only */ }
  });

  return { look, help, get status() { return status; } };
}
