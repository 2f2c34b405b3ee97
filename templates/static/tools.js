// Tools for what is loaded later: sending, copying, sizes of files.
import { h, toast } from "./dom.js";

export const post = (path, body) =>
  fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export function bytes(n) {
  const step = n < 1e6 ? [1e3, "kB"] : n < 1e9 ? [1e6, "MB"] : [1e9, "GB"];
  return `${(n / step[0]).toFixed(n / step[0] < 10 ? 1 : 0)} ${step[1]}`;
}

export async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https away from this machine there is no clipboard object; this way still works.
    const area = h("textarea", { value: text, class: "sr" });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(said);
}

/** From dark to light or back, kept for this browser. */
export function turnTheme() {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = (root.dataset.theme ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
  root.dataset.theme = theme;
  try { localStorage.setItem("theme", theme); } catch { /* kept for this page only */ }
}
