// The image count and the progress of an indexing run. The panels behind the two buttons are loaded
// when they are opened.
import { $, ask, h, loadStyles, number, style } from "./dom.js";

/** Milliseconds between requests: usually, while the library is empty, during a run. */
const IDLE = 10_000, EMPTY = 3000, RUNNING = 1500;

export function createStatus({ onCountChange }) {
  let status = {}, timer, panels = null;
  const bar = h("i", { class: "run", hidden: true });
  document.querySelector(".top").append(bar);

  async function poll() {
    clearTimeout(timer);
    const before = status.images;
    try {
      status = await ask("/api/status");
      const { run, images } = status, fraction = run?.total ? run.done / run.total : 0;
      $("count").textContent = number(images) + (fraction ? ` · ${Math.floor(fraction * 100)}%` : "");
      $("status-open").classList.toggle("running", !!run);
      if (run) await loadStyles("more.css");
      bar.hidden = !run;
      style(bar, { transform: `scaleX(${fraction})` });
      if (before !== undefined && before !== images) onCountChange(images - before, before);
      (await panels)?.update(status);
    } catch {
      // The server is unreachable: the next search reports it.
    }
    if (!document.hidden) timer = setTimeout(poll, status.run ? RUNNING : status.images ? IDLE : EMPTY);
  }
  document.addEventListener("visibilitychange", () => document.hidden || poll());

  async function open(name) {
    panels ??= Promise.all([import("./panels.js"), loadStyles("more.css")]).then(([{ createPanels }]) => createPanels());
    (await panels).open(name, status);
  }

  const help = () => open("help");
  $("status-open").addEventListener("click", () => open("status"));
  $("help-open").addEventListener("click", help);
  $("theme").addEventListener("click", async () => (await import("./tools.js")).switchTheme());

  return { poll, help };
}
