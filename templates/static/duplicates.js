// The duplicates page: which files to keep, what distinguishes them, and the paths of the rest, as a
// list or as a script. Nothing is deleted here.
import "./strings.page.js";
import "./strings.duplicates.js";
import { $, announce, h, number, t } from "./dom.js";
import { bytes, copy } from "./tools.js";

const SHARPNESS_PIXELS = 256; // of the longer side at which sharpness is compared
const SHARPER = 1.12; // ratio from which a photo is called sharper

const groups = [...document.querySelectorAll(".group")].map((section) => ({
  section,
  identical: section.dataset.kind === "copies",
  files: [...section.querySelectorAll("li")].map((node) => ({ node, path: node.dataset.path, size: Number(node.dataset.size), absolute: "absolute" in node.dataset, keep: null })),
}));

// -- what to keep

for (const { section, files } of groups) {
  files.forEach((file, i) => {
    file.keep = h("input", { type: "checkbox", checked: !i });
    file.keep.addEventListener("change", draw);
    file.node.append(h("label", { class: "keep" }, file.keep, t("duplicates.keep"), h("span", { class: "sr" }, ` ${file.path}`)));
  });
  section.append(h("p", { class: "faint skipped", hidden: true }, t("duplicates.none_kept")));
}

/** [kept, other, identical] for every file that is not kept; none of a group without a kept file. */
function rest() {
  return groups.flatMap(({ files, identical }) => {
    const kept = files.find(({ keep }) => keep.checked);
    return kept ? files.filter(({ keep }) => !keep.checked).map((file) => ({ kept: kept.path, path: file.path, size: file.size, identical })) : [];
  });
}

const summary = h("strong", {});
const action = (text, onclick) => h("button", { type: "button", class: "pill", onclick }, text);
const copyButton = action(t("duplicates.copy_paths"), () => copy(rest().map(({ path }) => path).join("\n"), t("duplicates.paths_copied", { count: rest().length })));
const scripts = [action(t("duplicates.shell_script"), () => save("remove-duplicates.sh", shell(rest()))), action(t("duplicates.powershell_script"), () => save("remove-duplicates.ps1", powershell(rest())))];
// Clients that may not see where files are get no script.
const mayScript = groups.every(({ files }) => files.every(({ absolute }) => absolute));
const bar = h("div", { class: "choices", role: "region", "aria-label": t("duplicates.files_not_kept") }, summary, copyButton, ...(mayScript ? scripts : []));
if (groups.length) $("main").append(bar);

function draw() {
  for (const { section, files } of groups) {
    for (const { node, keep } of files) node.classList.toggle("kept", keep.checked);
    section.querySelector(".skipped").hidden = files.some(({ keep }) => keep.checked);
  }
  const others = rest();
  summary.textContent = t("duplicates.not_kept", { count: others.length, size: bytes(others.reduce((sum, { size }) => sum + size, 0)) });
  for (const one of [copyButton, ...scripts]) one.disabled = !others.length;
}
draw();

// -- differences

for (const { files } of groups) {
  for (const fact of ["pixels", "size", "format", "date", "folder"]) {
    const cells = files.map(({ node }) => node.querySelector(`[data-fact="${fact}"]`));
    const values = new Set(cells.map((cell) => cell.lastElementChild.textContent));
    for (const cell of cells) cell.classList.toggle("differs", values.size > 1);
  }
}

/** How sharp a thumbnail is: the variance of the Laplacian of its brightness. */
function sharpness(image) {
  const scale = SHARPNESS_PIXELS / Math.max(image.naturalWidth, image.naturalHeight);
  const width = Math.max(3, Math.round(image.naturalWidth * scale)), height = Math.max(3, Math.round(image.naturalHeight * scale));
  const canvas = h("canvas", { width, height }), context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const light = (x, y) => { const i = 4 * (y * width + x); return 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]; };
  let sum = 0, squares = 0, n = 0;
  for (let y = 1; y < height - 1; y++) for (let x = 1; x < width - 1; x++) {
    const value = 4 * light(x, y) - light(x - 1, y) - light(x + 1, y) - light(x, y - 1) - light(x, y + 1);
    sum += value; squares += value * value; n++;
  }
  return squares / n - (sum / n) ** 2;
}

/** Compares the sharpness of a group's photos once they are loaded. */
async function compare({ files }) {
  const images = files.map(({ node }) => node.querySelector("img"));
  await Promise.all(images.map((image) => ((image.loading = "eager"), image.decode().catch(() => null))));
  if (images.some((image) => !image.naturalWidth)) return;
  const values = images.map(sharpness), best = Math.max(...values);
  const equal = best < SHARPER * Math.min(...values);
  files.forEach(({ node }, i) => {
    const text = equal ? t("duplicates.same") : values[i] * SHARPER > best ? t("duplicates.sharpest") : number(values[i] / best, { style: "percent" });
    node.querySelector("dl").append(h("div", { "data-fact": "sharpness", class: equal ? "" : "differs" }, h("dt", {}, t("duplicates.sharpness")), h("dd", {}, text)));
  });
}
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    compare(groups.find(({ section }) => section === target));
  }
}, { rootMargin: "300px" });
for (const { section, identical } of groups) if (!identical) seen.observe(section);

// -- scripts: each path is one quoted word, and a file is removed only beside the one that is kept

const forShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
/** PowerShell also takes typographic quotes for single ones. */
const forPowerShell = (text) => `'${text.replace(/['‘’‚‛]/g, "$&$&")}'`;

function shell(files) {
  return `#!/bin/sh
# Written by Sightline. Removes ${number(files.length)} files; read it before you run it.
# A file is removed only if the one that is kept instead is there; an identical one only if it still is.
similar() {
  if [ -s "$1" ] && [ -f "$2" ] && ! [ "$1" -ef "$2" ]; then rm -f -- "$2"; else printf 'left: %s\\n' "$2" >&2; fi
}
identical() {
  if cmp -s -- "$1" "$2"; then similar "$1" "$2"; else printf 'left: %s\\n' "$2" >&2; fi
}
${files.map(({ kept, path, identical }) => `${identical ? "identical" : "similar"} ${forShell(kept)} ${forShell(path)}`).join("\n")}
`;
}

function powershell(files) {
  // Windows PowerShell reads a file as UTF-8 if it starts with a byte order mark.
  return `\ufeff# Written by Sightline. Removes ${number(files.length)} files; read it before you run it.
# A file is removed only if the one that is kept instead is there; an identical one only if it still is.
function Similar([string] $Kept, [string] $Other) {
  if ((Test-Path -LiteralPath $Kept -PathType Leaf) -and (Test-Path -LiteralPath $Other -PathType Leaf)) {
    Remove-Item -LiteralPath $Other
  } else { Write-Warning "left: $Other" }
}
function Identical([string] $Kept, [string] $Other) {
  if ((Get-FileHash -LiteralPath $Kept).Hash -eq (Get-FileHash -LiteralPath $Other).Hash) { Similar $Kept $Other }
  else { Write-Warning "left: $Other" }
}
${files.map(({ kept, path, identical }) => `${identical ? "Identical" : "Similar"} ${forPowerShell(kept)} ${forPowerShell(path)}`).join("\n")}
`;
}

function save(name, text) {
  const href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  h("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
  announce(t("duplicates.saved", { name }));
}
