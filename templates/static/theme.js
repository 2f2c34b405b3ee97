// Applies the chosen theme before the first paint; without a choice the system's applies.
const applyTheme = (theme) => theme && (document.documentElement.dataset.theme = theme);
try {
  applyTheme(localStorage.getItem("theme"));
} catch { /* storage is disabled */ }
// Chosen in another tab.
addEventListener("storage", ({ key, newValue }) => key === "theme" && applyTheme(newValue));
