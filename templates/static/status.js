// The number in the corner, and that a run is under way. The panels behind the two buttons are
// loaded when they are opened.
import { $, ask, h, number, sheet, style } from "./dom.js";

const CALM = 10_000, EMPTY = 3000, RUNNING = 1500;

export function createStatus({ onGrown }) {
  let status = {}, timer, sheets = null;
  const bar = h("i", { class: "run", hidden: true });
  document.querySelector(".top").append(bar);

  async function look() {
    clearTimeout(timer);
    const before = status.images;
    try {
      status = await ask("/api/status");
      const { run, images } = status, share = run?.total ? run.done / run.total : 0;
      $("count").textContent = number(images) + (share ? ` · ${Math.floor(share * 100)} %` : "");
      $("status-open").classList.toggle("running", !!run);
      bar.hidden = !run;
      style(bar, { transform: `scaleX(${share})` });
      if (before !== undefined && before !== images) onGrown(images - before, before);
      (await sheets)?.changed(status);
    } catch {
      // The server is away for a moment; the next search says so where it matters.
    }
    if (!document.hidden) timer = setTimeout(look, status.run ? RUNNING : status.images ? CALM : EMPTY);
  }
  document.addEventListener("visibilitychange", () => document.hidden || look());

  async function open(name) {
    sheets ??= Promise.all([import("./sheets.js"), sheet("more.css")]).then(([{ createSheets }]) => createSheets());
    (await sheets).open(name, status);
  }

  const help = () => open("help");
  $("status-open").addEventListener("click", () => open("status"));
  $("help-open").addEventListener("click", help);
  $("theme").addEventListener("click", async () => (await import("./tools.js")).turnTheme());

  return { look, help };
}
