// Suggestions of filters for the token at the cursor: folders, cameras, years. Loaded when the search
// box first gets the focus.
import { ask, debounce, h, number, t } from "./dom.js";
import "./strings.query.js";
import { tokens } from "./query.js";

const PAUSE = 110, MAX_SUGGESTIONS = 8;

export function createSuggestions({ input, onAccept }) {
  const menu = h("ul", { id: "suggestions", role: "listbox", "aria-label": t("query.suggestions"), hidden: true });
  input.form.append(menu);
  let options = [], active = -1;
  let dismissed = false; // after Enter and Escape, so that late suggestions do not cover the chips

  const currentToken = () => {
    const before = input.value.slice(0, input.selectionStart);
    return before.endsWith(" ") ? "" : tokens(before).at(-1) ?? "";
  };

  const fetchSuggestions = debounce(PAUSE, async () => {
    const token = currentToken();
    if (dismissed || document.activeElement !== input || token.replace(/^-/, "").length < 2) return close();
    const found = await ask(`api/suggest?prefix=${encodeURIComponent(token)}`).catch(() => ({}));
    if (dismissed || currentToken() !== token || document.activeElement !== input) return;
    options = (found.suggestions ?? []).slice(0, MAX_SUGGESTIONS);
    active = -1;
    menu.replaceChildren(...options.map((option, i) => h("li", {
      role: "option", id: `suggestion-${i}`, "aria-selected": "false",
      onpointerdown: (event) => (event.preventDefault(), accept(i)),
    }, h("span", {}, option.text), h("small", {}, [t(`query.kind_${option.kind}`), option.count != null && number(option.count)].filter(Boolean).join(" · ")))));
    menu.hidden = !options.length;
    input.setAttribute("aria-expanded", String(!menu.hidden));
  });

  function close() {
    menu.hidden = true;
    [options, active] = [[], -1];
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  const dismiss = () => ((dismissed = true), close());

  /** Moves up or down; past either end no suggestion is active. */
  function move(step) {
    const stops = options.length + 1;
    active = ((active + 1 + step + stops) % stops) - 1;
    [...menu.children].forEach((node, i) => node.setAttribute("aria-selected", String(i === active)));
    if (active < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `suggestion-${active}`);
  }

  /** Replaces the token at the cursor; a filter name without a value leads to its values. */
  function accept(i) {
    const token = currentToken(), cursor = input.selectionStart, needsValue = options[i].text.endsWith(":");
    const head = input.value.slice(0, cursor - token.length) + options[i].text + (needsValue ? "" : " ");
    input.value = head + input.value.slice(cursor).trimStart();
    input.setSelectionRange(head.length, head.length);
    close();
    if (needsValue) fetchSuggestions();
    else onAccept();
  }

  for (const [name, value] of Object.entries({
    role: "combobox", "aria-autocomplete": "list", "aria-controls": "suggestions", "aria-expanded": "false",
  })) input.setAttribute(name, value);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const { key } = event;
    if (!options.length) return;
    if (key === "ArrowDown" || key === "ArrowUp") move(key === "ArrowDown" ? 1 : -1);
    else if ((key === "Enter" || key === "Tab") && active >= 0) accept(active);
    else if (key === "Escape") dismiss();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  return {
    /** Fetches suggestions once typing pauses. */
    update: () => ((dismissed = false), fetchSuggestions()),
    /** Closes the menu until something is typed. */
    dismiss,
  };
}
