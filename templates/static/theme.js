// Applies the chosen theme before the first paint; without a choice the system's applies.
try {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* storage is disabled */ }
