// Requests with a body, the clipboard, file sizes, the theme switch. Loaded when needed.
import { h, number, toast } from "./dom.js";

export const post = (path, body) =>
  fetch(path, { method: "POST", headers: { "Content-Type": "application/json", "Sightline-Errors": "translated" }, body: JSON.stringify(body) });

export function bytes(n) {
  const [size, unit] = n < 1e6 ? [1e3, "kilobyte"] : n < 1e9 ? [1e6, "megabyte"] : [1e9, "gigabyte"];
  const digits = n / size < 10 ? 1 : 0;
  return number(n / size, { style: "unit", unit, minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export async function copy(text, confirmation) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Over plain http from another machine there is no clipboard API.
    const area = h("textarea", { value: text, class: "sr" });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(confirmation);
}

export function switchTheme() {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = (root.dataset.theme ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
  root.dataset.theme = theme;
  try { localStorage.setItem("theme", theme); } catch { /* storage is disabled */ }
}
