// A slideshow of the results in the lightbox, in full screen where the browser allows it. Loaded with
// the first one.
const PAUSE = 5000; // milliseconds per photo
const IDLE = 2200; // milliseconds without the pointer after which the controls fade

/** `next()` shows the next photo, and returns false after the last one. `onChange(running)`. */
export function createSlideshow({ node, next, onChange }) {
  let timer = null, idle = null, running = false;

  function tick() {
    clearTimeout(timer);
    timer = setTimeout(() => (next() ? tick() : stop()), PAUSE);
  }

  function wake() {
    node.classList.remove("idle");
    clearTimeout(idle);
    if (running) idle = setTimeout(() => node.classList.add("idle"), IDLE);
  }

  async function start() {
    running = true;
    onChange(true);
    wake();
    tick();
    await node.requestFullscreen?.().catch(() => null); // a browser may refuse it
    if (!running && document.fullscreenElement) document.exitFullscreen();
  }

  function stop() {
    if (!running) return;
    running = false;
    clearTimeout(timer);
    wake();
    onChange(false);
    if (document.fullscreenElement === node) document.exitFullscreen();
  }

  for (const name of ["pointermove", "pointerdown", "keydown"]) node.addEventListener(name, wake);
  document.addEventListener("fullscreenchange", () => document.fullscreenElement || stop());

  return {
    toggle: () => (running ? stop() : start()),
    stop,
    /** A photo was chosen by hand: its time starts now. */
    moved: () => running && tick(),
    get running() { return running; },
  };
}
