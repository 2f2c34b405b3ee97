// The image count and the progress of an indexing run. The panels behind the two buttons are loaded
// when they are opened.
import { $, Unreachable, ask, h, load, loadStyles, number, once, style } from "./dom.js";

/** Milliseconds between requests: usually, while the library is empty, during a run, without an answer. */
const IDLE = 10_000, EMPTY = 3000, RUNNING = 1500, LOST = 2000;

/** `onReturn` is called when the server answers again. */
export function createStatus({ onCountChange, onReturn }) {
  let status = {}, timer, lost = false;
  const bar = h("i", { class: "run", hidden: true });
  document.querySelector(".top").append(bar);

  async function poll() {
    clearTimeout(timer);
    const before = status.images;
    try {
      status = await ask("api/status");
      const { run, images } = status, fraction = run?.total ? run.done / run.total : 0;
      $("count").textContent = number(images) + (fraction ? ` · ${number(Math.floor(fraction * 100) / 100, { style: "percent" })}` : "");
      $("status-open").classList.toggle("running", !!run);
      if (run) await loadStyles("more.css");
      bar.hidden = !run;
      style(bar, { transform: `scaleX(${fraction})` });
      if (before !== undefined && before !== images) onCountChange(images - before, before);
      if (drawn) (await panels()).update(status);
      if (lost) onReturn();
      lost = false;
    } catch (error) {
      // A search reports it.
      lost ||= error instanceof Unreachable;
    }
    if (!document.hidden) timer = setTimeout(poll, lost ? LOST : status.run ? RUNNING : status.images ? IDLE : EMPTY);
  }
  document.addEventListener("visibilitychange", () => document.hidden || poll());

  /** An action got no answer: asks until there is one. */
  function losing() {
    lost = true;
    clearTimeout(timer);
    timer = setTimeout(poll, LOST);
  }
  addEventListener("online", () => ((lost = true), poll()));

  let drawn = false;
  const panels = once(async () => {
    const [{ createPanels }] = await Promise.all([load("panels.js", "tools.js", "strings.panels.js"), loadStyles("more.css")]);
    drawn = true;
    return createPanels();
  });
  const open = async (name) => (await panels()).open(name, status);

  const help = () => open("help");
  $("status-open").addEventListener("click", () => open("status"));
  $("help-open").addEventListener("click", help);
  $("theme").addEventListener("click", async () => (await load("tools.js")).switchTheme());

  return { poll, help, losing };
}
