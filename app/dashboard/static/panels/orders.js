// The blotter: the newest orders, with filters, why they were refused, and a way to each one's trace.

import { $, clock, el, number, price, qty, text } from "../dom.js";
import { setView, view } from "../view.js";

const ROWS_MAX = 150;
const KEPT = 600;
const REFUSED = new Set(["Denied", "Rejected"]);
const OPEN = new Set(["PendingNew", "New", "PartiallyFilled"]);
let orders = new Map();
let bySymbol = new Map();
let newest = [];
let prefix = "strategy";
let context = null;
let held = 0;
let stale = false;

export function start(given) {
  context = given;
  const radios = [...document.querySelectorAll("input[name=which]")];
  (radios.find((radio) => radio.value === view.which) ?? radios[0]).checked = true;
  $("search").value = view.search;
  for (const radio of radios) radio.addEventListener("change", () => { setView({ which: radio.value }); draw(); });
  $("search").addEventListener("input", () => { setView({ search: $("search").value.trim() }); draw(); });
  const body = $("blotter").tBodies[0];
  for (const name of ["pointerleave", "focusout"]) body.addEventListener(name, () => setTimeout(() => { if (!isHeld()) draw(); }, 0));
}

// Rows must not move away under the pointer, nor lose the focus.
function isHeld() {
  const body = $("blotter").tBodies[0];
  return body.matches(":hover") || body.contains(document.activeElement);
}

export function update(snapshot) {
  prefix = context.static?.strategy_client ?? prefix;
  if (snapshot.reset) orders = new Map();
  if (!snapshot.reset && !snapshot.orders.length) return;
  for (const row of snapshot.orders) {
    held += !orders.has(row.order_no);
    orders.set(row.order_no, row);
  }
  newest = [...orders.values()].sort((a, b) => b.order_no - a.order_no);
  if (newest.length > KEPT) {
    for (const row of newest.splice(KEPT)) orders.delete(row.order_no);
  }
  bySymbol = new Map();
  if (snapshot.reset || !isHeld()) draw();
  else { stale = true; note(); }
}

// What the price chart draws: an order of a strategy is at the tick that its id names.
export function ofSymbol(symbol) {
  if (!bySymbol.has(symbol)) {
    bySymbol.set(symbol, newest.filter((row) => row.symbol === symbol && isStrategy(row.client)).map((row) => ({
      id: row.id, seq: (row.id - 1) % 2 ** 40, side: row.side, qty: row.qty, status: row.status,
      at: row.avg_price ?? row.price, filled: row.filled_qty > 0, refused: REFUSED.has(row.status),
    })));
  }
  return bySymbol.get(symbol);
}

function isStrategy(client) {
  if (!client.startsWith(prefix)) return false;
  const rest = client.slice(prefix.length);
  return !rest || rest[0] === "-" || rest[0] === "@";
}

function wanted(row) {
  if (view.which === "filled" && !row.filled_qty) return false;
  if (view.which === "open" && !OPEN.has(row.status)) return false;
  if (view.which === "refused" && !REFUSED.has(row.status)) return false;
  const words = view.search.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return true;
  const all = [row.id, row.client, row.side, row.symbol, row.status, row.code ?? "", row.msg ?? ""].join(" ").toLowerCase();
  return words.every((word) => all.includes(word));
}

function draw() {
  held = 0;
  stale = false;
  const found = newest.filter(wanted);
  const body = $("blotter").tBodies[0];
  const rows = found.slice(0, ROWS_MAX).map(makeRow);
  if (!rows.length) {
    const why = newest.length ? "No order here passes this filter." : "No order yet.";
    rows.push(el("tr", {}, el("td", { colspan: "11", class: "none" }, why)));
  }
  body.replaceChildren(...rows);
  const clients = new Set(newest.map((row) => row.client));
  $("blotter").classList.toggle("one-client", clients.size < 2);
  const refused = newest.filter((row) => REFUSED.has(row.status)).length;
  text($("orders-count"), `${number(found.length)} of the newest ${number(newest.length)}${refused ? `, ${number(refused)} refused` : ""}`);
  note();
}

function note() {
  text($("orders-held"), stale ? `Held while you point at it${held ? `: ${number(held)} new` : ""}.` : "");
}

const made = new WeakMap();

function makeRow(row) {
  if (made.has(row)) return made.get(row);
  const refused = REFUSED.has(row.status);
  const open = OPEN.has(row.status);
  const button = el("button", { type: "button", "aria-label": `Trace of order ${row.id}`, onclick: () => context.showTrace(row) }, String(row.id));
  const cell = (value, name = "") => el("td", name ? { class: name } : {}, value);
  const line = el("tr", { class: refused ? "refused" : "" },
    cell(clock(row.at_ns / 1e6, { millis: true })), cell(button),
    cell(row.side, row.side === "BUY" ? "side-buy" : "side-sell"), cell(qty(row.qty), "num"), cell(row.symbol),
    cell(row.price === null ? "market" : price(row.price), "num"),
    cell(row.status, refused ? "status-bad" : open ? "status-open" : ""),
    cell(qty(row.filled_qty), "num"), cell(row.avg_price === null ? "-" : price(row.avg_price), "num"),
    cell(row.client, "client"), cell(refused || row.msg ? `${row.code ?? ""} ${row.msg ?? ""}`.trim() : "", "reason"));
  line.cells[9].title = row.client;
  made.set(row, line);
  return line;
}
