// Before the first paint: the theme of the address, else the one chosen last, else the system's.
(() => {
  const names = ["light", "dark"];
  const wanted = new URLSearchParams(location.search).get("theme");
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch { /* storage is switched off */ }
  const theme = names.includes(wanted) ? wanted : names.includes(kept) ? kept : "auto";
  document.documentElement.dataset.theme = theme;
})();
