// A long press on a picture. Loaded where there are fingers to press with.

const LONG = 450;

/** Calls `work` with the touch that became long; the click that may follow it does nothing. */
export function longPress(list, work) {
  let pressed, held = false;
  const unpress = () => clearTimeout(pressed);
  list.addEventListener("touchstart", (event) => {
    unpress();
    held = false;
    if (event.target.closest(".tile")) pressed = setTimeout(() => work(event, (held = true)), LONG);
  }, { passive: true });
  for (const name of ["touchend", "touchmove", "touchcancel"]) list.addEventListener(name, unpress, { passive: true });
  list.addEventListener("click", (event) => {
    if (!held || !event.target.closest("a")) return;
    held = false;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, { capture: true });
  list.addEventListener("contextmenu", (event) => matchMedia("(hover: none)").matches && event.preventDefault());
}
