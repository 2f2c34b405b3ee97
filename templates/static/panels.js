// The two panels: the status of the library, and help.
import { Unreachable, ask, button, h, number, plural } from "./dom.js";
import { bytes } from "./tools.js";

const MAX_FAILURES = 100;

export function createPanels() {
  const panels = { status: panel("status", "This library"), help: panel("help", "Help") };
  let failed = { count: 0, rows: [] }, started = null;

  function panel(id, title) {
    const body = h("div", { id: `${id}-body` });
    const dialog = h("dialog", { class: "sheet", id, "aria-labelledby": `${id}-title`, onclick: (event) => event.target === dialog && dialog.close() },
      h("header", {}, h("h2", { id: `${id}-title` }, title), button("close", "Close", () => dialog.close())), body);
    document.body.append(dialog);
    return { dialog, body };
  }

  async function open(name, status) {
    const { dialog, body } = panels[name];
    if (!dialog.open) dialog.showModal();
    if (name === "status") return draw(status);
    if (!body.childElementCount) {
      const answer = await fetch(new URL("help.html", import.meta.url)).catch(() => null);
      if (!answer?.ok) throw new Unreachable();
      body.innerHTML = await answer.text();
    }
  }

  /** The time left of a run, from its pace since this page first saw it. */
  function timeLeft({ done = 0, total }) {
    if (!started || started.done > done) started = { done, at: Date.now() };
    const seconds = (Date.now() - started.at) / 1000, pace = (done - started.done) / seconds;
    if (!total || seconds < 5 || !pace) return "";
    const rest = (total - done) / pace;
    return rest < 90 ? ", about a minute left" : rest < 5400 ? `, about ${Math.round(rest / 60)} minutes left` : `, about ${Math.round(rest / 3600)} hours left`;
  }

  async function draw(status) {
    const { run, index = {}, failures } = status;
    const row = (name, value) => value != null && value !== "" && h("div", {}, h("dt", {}, name), h("dd", {}, value));
    const body = [h("dl", { class: "facts" },
      row("Photos", number(status.images)),
      row("Model", [status.model, status.dimension && `${status.dimension}-dimensional`].filter(Boolean).join(", ")),
      row("Index", [index.type, index.bytes && bytes(index.bytes), index.pending && `${number(index.pending)} pending`].filter(Boolean).join(", ")),
      row("Folders", status.roots?.map((root) => root.path ?? root).join(", ")),
      row("Library", status.library),
      row("Last search", document.getElementById("status-open").dataset.took))];
    if (!run) started = null;
    else {
      const { done = 0, total } = run;
      body.unshift(h("div", { class: "progress" }, h("p", { id: "progress-name" }, h("strong", {}, run.model ? `Changing the model to ${run.model}` : "Indexing photos"),
        ` ${number(done)}${total ? ` of ${number(total)}` : ""}${timeLeft(run)}`),
      h("progress", { "aria-labelledby": "progress-name", ...(total ? { max: total, value: done } : {}) })));
    }
    if (failures) {
      if (failed.count !== failures) failed = { count: failures, rows: (await ask("api/failures").catch(() => ({}))).failures ?? [] };
      body.push(h("h3", {}, `${plural(failures, "file")} could not be read`), h("ul", { class: "failures" },
        ...failed.rows.slice(0, MAX_FAILURES).map(({ path, reason }) => h("li", {}, h("code", {}, path), h("span", {}, reason)))),
      failures > MAX_FAILURES && h("p", {}, h("a", { href: "failures" }, "Show all")));
    }
    body.push(h("p", {}, h("a", { href: "duplicates" }, "Duplicates")));
    panels.status.body.replaceChildren(...body.filter(Boolean));
  }

  return { open, update: (status) => panels.status.dialog.open && draw(status) };
}
