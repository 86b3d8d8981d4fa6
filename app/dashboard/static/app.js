// Connects the stream to the panels.  Each panel takes what it needs of a snapshot.

import { $, attr, clock, command, kind, number, text } from "./dom.js";
import { Stream } from "./stream/stream.js";
import { setView, view } from "./view.js";
import * as bar from "./panels/bar.js";
import * as pipeline from "./panels/pipeline.js";
import * as proof from "./panels/proof.js";
import * as price from "./panels/price.js";
import * as account from "./panels/account.js";
import * as orders from "./panels/orders.js";
import * as latency from "./panels/latency.js";
import * as losses from "./panels/losses.js";
import * as trace from "./panels/trace.js";

const panels = [bar, pipeline, proof, price, account, orders, latency, losses, trace];
const SILENT_MS = 2500;
let heardAt = 0;
let triedAt = 0;
let isLive = null;
let staticData = null;

const context = {
  get static() { return staticData; },
  showTrace: (order) => trace.open(order),
  ordersOf: (symbol) => orders.ofSymbol(symbol),
  chooseSymbol(symbol) {
    if (symbol === view.symbol) return;
    setView({ symbol });
    connect();
  },
};

const stream = new Stream({
  snapshot: take,
  lost(isClosed) {
    say(false);
    // The browser tries again by itself, except after an answer that is no stream.
    if (isClosed) setTimeout(recover, 1500);
  },
});

function connect() {
  triedAt = performance.now();
  stream.connect(view.symbol);
}

// A browser keeps a page that was left, and with it one of the six connections that it has to a host.
addEventListener("pagehide", () => stream.close());
addEventListener("pageshow", (event) => { if (event.persisted) connect(); });

async function recover() {
  if (!stream.isClosed) return;
  const answer = await fetch("/readyz").catch(() => null);
  const page = answer && (await fetch("/", { redirect: "manual" }).catch(() => null));
  if (page?.type === "opaqueredirect") location.assign("/login");
  else connect();
}

function take(snapshot) {
  heardAt = performance.now();
  say(true);
  if (snapshot.reset) {
    staticData = snapshot.static;
    $("logout").hidden = !staticData.token;
    // The one that is shown unasked, too: a refresh shows it again.
    if (snapshot.symbol && snapshot.symbol !== view.symbol) setView({ symbol: snapshot.symbol });
  }
  for (const panel of panels) panel.update(snapshot, context);
  const { problem, sentiment, pages } = snapshot.state;
  show(problem ? `No prices here: ${problem}` : "");
  text($("sentiment-note"), sentiment ? `not connected: ${sentiment}` : "");
  text($("pages"), `${number(pages)} open ${pages === 1 ? "stream" : "streams"}`);
}

function say(live) {
  if (live === isLive) return;
  isLive = live;
  const node = $("stream");
  kind(node, "stream", live ? "live" : "lost");
  text(node.lastElementChild, live ? "live" : "stream lost, reconnecting");
  attr(document.body, "data-stream", live ? "live" : "lost");
  if (!live) {
    const since = heardAt ? `what you see is from ${clock(Date.now() - (performance.now() - heardAt))} UTC` : "nothing was received yet";
    show(`The stream broke: ${since}. Trying again.`);
  }
}

function show(note) {
  if ($("notice").hidden === Boolean(note)) $("notice").hidden = !note;
  text($("notice"), note);
}

setInterval(() => {
  const now = performance.now();
  if (heardAt && now - heardAt > SILENT_MS) say(false);
  if (now - Math.max(heardAt, triedAt) > 4 * SILENT_MS) connect();
}, 500);

function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").value = theme;
  try { localStorage.setItem("theme", theme); } catch { /* storage is switched off */ }
  setView({ theme: theme === "auto" ? "" : theme });
  repaint();
}

function repaint() {
  for (const panel of panels) panel.repaint?.();
}

function keys(event) {
  if (!$("keys-on").checked || event.ctrlKey || event.metaKey || event.altKey) return;
  const at = event.target;
  if (at.matches("input, select, textarea, button, summary, a, [role=region]") && !(event.key === "?" && at.matches("button, [role=region]"))) return;
  if (document.querySelector("dialog[open]")) return;
  const themes = ["auto", "light", "dark"];
  const does = {
    " ": () => bar.togglePlay(),
    ".": () => bar.step(),
    "[": () => price.move(-1, context),
    "]": () => price.move(1, context),
    "/": () => $("search").focus(),
    "?": () => $("help").showModal(),
    t: () => applyTheme(themes[(themes.indexOf($("theme").value) + 1) % 3]),
  }[event.key];
  if (does) { event.preventDefault(); does(); }
}

$("theme").value = document.documentElement.dataset.theme;
$("theme").addEventListener("change", () => applyTheme($("theme").value));
$("help-open").addEventListener("click", () => $("help").showModal());
try { $("keys-on").checked = localStorage.getItem("keys") !== "off"; } catch { /* storage is switched off */ }
$("keys-on").addEventListener("change", () => {
  try { localStorage.setItem("keys", $("keys-on").checked ? "on" : "off"); } catch { /* as above */ }
});
$("logout").addEventListener("click", async () => { await command("/logout", {}); location.assign("/login"); });
document.addEventListener("keydown", keys);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
for (const panel of panels) panel.start?.(context);
connect();
