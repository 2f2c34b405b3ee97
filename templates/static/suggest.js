// Suggestions of filters for the word at the cursor: folders, cameras, years. Loaded with the first
// look into the box.
import { ask, h, later, number } from "./dom.js";
import { tokens } from "./query.js";

const PAUSE = 110, MOST = 8;

export function createSuggestions({ input, onTake }) {
  const menu = h("ul", { id: "suggestions", role: "listbox", "aria-label": "Suggestions", hidden: true });
  input.form.append(menu);
  let options = [], chosen = -1;
  let settled = false; // Enter was pressed: suggestions that arrive late would lie over the chips

  const lastWord = () => {
    const before = input.value.slice(0, input.selectionStart);
    return before.endsWith(" ") ? "" : tokens(before).at(-1) ?? "";
  };

  const look = later(PAUSE, async () => {
    const word = lastWord();
    if (settled || document.activeElement !== input || word.replace(/^-/, "").length < 2) return close();
    const found = await ask(`/api/suggest?prefix=${encodeURIComponent(word)}`).catch(() => ({}));
    if (settled || lastWord() !== word || document.activeElement !== input) return;
    options = (found.suggestions ?? []).slice(0, MOST);
    chosen = -1;
    menu.replaceChildren(...options.map((option, i) => h("li", {
      role: "option", id: `suggestion-${i}`, "aria-selected": "false",
      onpointerdown: (event) => (event.preventDefault(), take(i)),
    }, h("span", {}, option.text), h("small", {}, [option.kind, option.count != null && number(option.count)].filter(Boolean).join(" · ")))));
    menu.hidden = !options.length;
    input.setAttribute("aria-expanded", String(!menu.hidden));
  });

  function close() {
    menu.hidden = true;
    [options, chosen] = [[], -1];
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  /** Up and down, past both ends back to what was typed. */
  function point(step) {
    const stops = options.length + 1;
    chosen = ((chosen + 1 + step + stops) % stops) - 1;
    [...menu.children].forEach((node, i) => node.setAttribute("aria-selected", String(i === chosen)));
    if (chosen < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `suggestion-${chosen}`);
  }

  function take(i) {
    const word = lastWord(), at = input.selectionStart, more = options[i].text.endsWith(":");
    const head = input.value.slice(0, at - word.length) + options[i].text + (more ? "" : " ");
    input.value = head + input.value.slice(at).trimStart();
    input.setSelectionRange(head.length, head.length);
    close();
    if (more) look();
    else onTake();
  }

  for (const [name, value] of Object.entries({
    role: "combobox", "aria-autocomplete": "list", "aria-controls": "suggestions", "aria-expanded": "false",
  })) input.setAttribute(name, value);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const { key } = event;
    if (!options.length) return;
    if (key === "ArrowDown" || key === "ArrowUp") point(key === "ArrowDown" ? 1 : -1);
    else if ((key === "Enter" || key === "Tab") && chosen >= 0) take(chosen);
    else if (key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  return {
    /** Looks for suggestions once typing pauses. */
    ask: () => ((settled = false), look()),
    /** Shows none until something is typed again. */
    settle: () => ((settled = true), close()),
  };
}
