// Profit, what is held, and how much of the limits is used.

import { Chart, axis, line } from "../chart.js";
import { $, age, attr, clock, el, kind, number, price, qty, signed, table, text } from "../dom.js";

const KEPT = 1200;
const TABLE_MS = 2000;
let profit = [[], [], []];
let chart = null;
let tableAt = 0;
const meters = new Map();

export function start() {
  $("account").querySelector("details").addEventListener("toggle", () => fillTable(true));
}

export function update(snapshot) {
  const { account } = snapshot.state;
  if (snapshot.reset) profit = [[], [], []];
  for (const [at_s, realised, unrealised] of snapshot.profit) {
    profit[0].push(at_s);
    profit[1].push(realised + unrealised);
    profit[2].push(realised);
  }
  for (const column of profit) if (column.length > KEPT) column.splice(0, column.length - KEPT);
  if (snapshot.reset || snapshot.profit.length) draw();
  const known = account.age_s !== null;
  const note = account.problem && (known ? `last news ${age(account.age_s)} ago: ${account.problem}` : account.problem);
  text($("account-note"), note);
  attr($("account-note"), "title", note);
  if (!known) return;
  const { realised, unrealised, exposure } = account.total;
  amount($("pnl"), realised + unrealised);
  amount($("realised"), realised);
  amount($("unrealised"), unrealised);
  showCosts(account.total, account.latency_cost);
  showLimits(account, exposure);
  const rows = account.positions.map((row) => [row.symbol, qty(row.qty), row.avg_cost === null ? "-" : price(row.avg_cost), price(row.mark), signed(row.realised), signed(row.unrealised)]);
  const many = new Set(account.positions.map((row) => row.client)).size > 1;
  if (many) rows.forEach((row, at) => { row[0] += ` (${account.positions[at].client})`; });
  if (account.more_positions) rows.push(["and more", "", "", "", "", ""]);
  table($("positions"), ["Symbol", "Qty", "Cost", "Market", "Realised", "Unrealised"], rows);
}

// What trading has cost: all of it is in the profit.
function showCosts({ fees, slippage, impact, borrow, accrued, turnover }, latency) {
  const kinds = [["fees", fees], ["slippage and half spread", slippage], ["impact", impact], ["latency", latency], ["borrow", borrow + accrued]];
  const costs = kinds.filter(([, cost]) => cost);
  $("costs").hidden = !costs.length;
  if (!costs.length) return;
  const total = costs.reduce((sum, [, cost]) => sum + cost, 0);
  const parts = costs.map(([name, cost]) => `${name} ${number(cost, 2)}`).join(", ");
  text($("costs"), `Costs, in the profit: ${parts}; ${number((total * 10_000) / turnover, 2)} basis points of the turnover`);
}

function amount(node, value) {
  text(node, signed(value));
  const base = node.id === "pnl" ? "big num" : "num";
  kind(node, base, value > 0 ? "gain" : value < 0 ? "loss" : "");
}

// [name, used, limit, digits]: for the whole stack, and for the strategy where it has a limit of its own.
function showLimits(account, exposure) {
  const rows = [["Exposure", exposure, account.limits.exposure_max, 0], ["Loss today", lossOf(account.used), account.limits.daily_loss_max, 2], ["Open orders", account.used.open_orders, account.limits.open_orders_max, 0]];
  const own = account.client_limits;
  if (own.exposure_max) {
    const held = account.positions.filter((row) => row.client === account.client).reduce((sum, row) => sum + Math.abs(row.qty) * row.mark, 0);
    rows.push(["Exposure of the strategy", held, own.exposure_max, 0]);
  }
  if (own.daily_loss_max) rows.push(["Loss today of the strategy", lossOf(account.client_used), own.daily_loss_max, 2]);
  const list = $("limits");
  for (const [name, used, limit, digits] of rows) {
    let found = meters.get(name);
    if (!found) {
      const bar = el("i");
      const meter = el("div", { class: "meter", "aria-hidden": "true" }, bar);
      const words = el("span", { class: "amount" });
      list.append(el("li", {}, el("span", {}, name), words, meter));
      found = { bar, meter, words };
      meters.set(name, found);
    }
    const share = limit ? Math.min(used / limit, 1) : 0;
    text(found.words, limit ? `${number(used, digits)} of ${number(limit)} (${number(share * 100)} %)` : `${number(used, digits)}, no limit`);
    kind(found.meter, "meter", share >= 1 ? "over" : share >= 0.8 ? "near" : "");
    const width = `scaleX(${limit ? share : 0})`;
    if (found.bar.style.transform !== width) found.bar.style.transform = width;
  }
}

const lossOf = (used) => Math.max(-used.profit_today, 0);

function draw() {
  if (!chart) chart = new Chart($("pnl-chart"), options, { tip });
  chart.set(profit);
  fillTable(false);
  const last = profit[1].at(-1);
  attr($("pnl-chart"), "aria-label", last === undefined ? "No profit yet." : `Profit now ${signed(last)}; between ${signed(Math.min(...profit[1]))} and ${signed(Math.max(...profit[1]))} since ${clock(profit[0][0] * 1000)} UTC. The table below has the values.`);
}

function fillTable(anew) {
  if (!anew && performance.now() - tableAt < TABLE_MS) return;
  tableAt = performance.now();
  if (!$("account").querySelector("details").open) return;
  const rows = profit[0].map((at_s, at) => [clock(at_s * 1000), signed(profit[1][at]), signed(profit[2][at])]).reverse().slice(0, 40);
  table($("pnl-table"), ["Time (UTC)", "PnL", "Realised"], rows);
}

const tip = (at) => [`${clock(profit[0][at] * 1000)} UTC`, `PnL ${signed(profit[1][at])}`, `realised ${signed(profit[2][at])}`];

function options(paint) {
  const { color, size } = paint;
  return {
    scales: { x: { time: false }, y: { range: (_plot, low, high) => [Math.min(low, 0) - (high - low || 1) * 0.05, Math.max(high, 0) + (high - low || 1) * 0.05] } },
    axes: [axis(paint, { space: 90, values: (_plot, splits) => splits.map((at_s) => clock(at_s * 1000)) }), axis(paint, { size: Math.round(size * 3.8), values: (_plot, splits) => splits.map((value) => number(value)) })],
    series: [{}, line(color("accent"), { width: 2, fill: color("accent-ground") }), line(color("muted"), { dash: [4, 3] })],
  };
}

export function repaint() { chart?.repaint(); }
