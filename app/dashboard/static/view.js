// What the page shows is in its address, so that a refresh or a link brings the same view back.

const defaults = { symbol: "", span: "450", which: "all", search: "", latency: "recent", theme: "", order: "" };
const params = new URLSearchParams(location.search);

export const view = Object.fromEntries(
  Object.entries(defaults).map(([name, value]) => [name, params.get(name) ?? value]),
);

export function setView(changes) {
  Object.assign(view, changes);
  const kept = Object.entries(view).filter(([name, value]) => value !== defaults[name]);
  const query = new URLSearchParams(kept).toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
}
