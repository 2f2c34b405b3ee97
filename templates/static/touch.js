// A long press on a tile. Loaded on devices with a touch screen.

const LONG_PRESS = 450; // milliseconds

/** Calls `work` on a long press, and swallows the click that may follow it. */
export function longPress(list, work) {
  let timer, long = false;
  const cancel = () => clearTimeout(timer);
  list.addEventListener("touchstart", (event) => {
    cancel();
    long = false;
    if (event.target.closest(".tile")) timer = setTimeout(() => work(event, (long = true)), LONG_PRESS);
  }, { passive: true });
  for (const name of ["touchend", "touchmove", "touchcancel"]) list.addEventListener(name, cancel, { passive: true });
  list.addEventListener("click", (event) => {
    if (!long || !event.target.closest("a")) return;
    long = false;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, { capture: true });
  list.addEventListener("contextmenu", (event) => matchMedia("(hover: none)").matches && event.preventDefault());
}
