// The chosen symbol: price with the strategy's moving averages, sentiment, signals, and its orders.

import { Chart, axis, line } from "../chart.js";
import { $, attr, clock, el, number, price as money, qty, signed, table, text } from "../dom.js";
import { setView, view } from "../view.js";

const FIELDS = ["seq", "event_ms", "price", "short", "long", "sentiment", "signal"];
const KEPT = 1800;
const TABLE_MS = 2000;
const TABLE_ROWS = 40;
let all = Object.fromEntries(FIELDS.map((name) => [name, []]));
let shown = all;
let fixed = null;
let symbol = "";
let tableAt = 0;
let charts = null;
let ordersOf = () => [];

export function start(context) {
  ordersOf = context.ordersOf;
  $("span").value = ["120", "450", "1800"].includes(view.span) ? view.span : "450";
  $("span").addEventListener("change", () => { setView({ span: $("span").value }); draw(true); });
  $("symbol").addEventListener("change", () => context.chooseSymbol($("symbol").value));
  $("price").querySelector("details").addEventListener("toggle", () => fillTable(true));
}

export function move(by, context) {
  const names = fixed?.symbols ?? [];
  const at = names.indexOf(symbol) + by;
  if (names.length) context.chooseSymbol(names[(at + names.length) % names.length]);
}

export function update(snapshot, context) {
  const { series } = snapshot;
  if (snapshot.reset) {
    fixed = context.static;
    symbol = snapshot.symbol;
    all = Object.fromEntries(FIELDS.map((name) => [name, series[name]]));
    listSymbols();
  } else if (series.seq.length) {
    for (const name of FIELDS) {
      all[name].push(...series[name]);
      if (all[name].length > KEPT) all[name].splice(0, all[name].length - KEPT);
    }
  }
  if (snapshot.reset || series.seq.length || snapshot.orders.length) draw(snapshot.reset);
}

function listSymbols() {
  const names = fixed.symbols;
  const select = $("symbol");
  if ([...select.options].map((option) => option.value).join() !== names.join()) {
    select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
  }
  select.value = symbol;
  text($("k-short"), `Average of ${fixed.short_window} ticks`);
  text($("k-long"), `Average of ${fixed.long_window} ticks`);
}

function draw(anew) {
  const count = Number($("span").value);
  shown = Object.fromEntries(FIELDS.map((name) => [name, all[name].slice(-count)]));
  if (!charts) charts = { price: new Chart($("price-chart"), priceOptions, { tip }), sentiment: new Chart($("sentiment-chart"), sentimentOptions, { tip }) };
  charts.price.set([shown.seq, shown.price, shown.short, shown.long]);
  charts.sentiment.set([shown.seq, shown.sentiment]);
  const last = shown.price.at(-1);
  const first = shown.price[0];
  text($("last"), money(last));
  text($("change"), shown.price.length > 1 ? `${signed(last - first)} (${signed(((last - first) / first) * 100)} %) in view` : " ");
  fillTable(anew);
  const words = shown.price.length ? `Price of ${symbol}: ${money(last)} at ${clock(shown.event_ms.at(-1), { date: true })}, between ${money(Math.min(...shown.price))} and ${money(Math.max(...shown.price))} in the ${shown.price.length} points shown. The table below has the values.` : `No price of ${symbol} yet.`;
  if (anew || performance.now() - tableAt < 50) {
    attr($("price-chart"), "aria-label", words);
    attr($("sentiment-chart"), "aria-label", `Sentiment of ${symbol}: ${shown.sentiment.at(-1) ?? "none yet"}, from 0 to 100. The table below has the values.`);
  }
}

function fillTable(anew) {
  if (!anew && performance.now() - tableAt < TABLE_MS) return;
  tableAt = performance.now();
  if (!$("price").querySelector("details").open) return;
  const begin = Math.max(shown.seq.length - TABLE_ROWS, 0);
  const rows = [];
  for (let at = shown.seq.length - 1; at >= begin; at--) {
    rows.push([number(shown.seq[at]), clock(shown.event_ms[at], { date: true }), money(shown.price[at]), fine(shown.short[at]), fine(shown.long[at]), shown.sentiment[at] ?? "-", signalOf(at)]);
  }
  table($("price-table"), ["Tick", "Event time", "Price", `Average of ${fixed?.short_window}`, `Average of ${fixed?.long_window}`, "Sentiment", "Signal"], rows);
}

const fine = (value) => (value === null ? "-" : number(value, 3));
const signalOf = (at) => ["SELL", "HOLD", "BUY"][shown.signal[at] + 1];

function tip(at) {
  const lines = [`tick ${number(shown.seq[at])}, ${clock(shown.event_ms[at], { date: true })}`, `price ${money(shown.price[at])}, averages ${fine(shown.short[at])} and ${fine(shown.long[at])}`, `sentiment ${shown.sentiment[at] ?? "-"}, signal ${signalOf(at)}`];
  const [low, high] = [shown.seq[at], shown.seq[at + 1] ?? Infinity];
  for (const order of ordersOf(symbol)) {
    if (order.seq >= low && order.seq < high) lines.push(`${order.side} ${qty(order.qty)} at ${money(order.at)}, ${order.status}, order ${order.id}`);
  }
  return lines.slice(0, 7);
}

function timeAt(seq) {
  const found = shown.seq;
  let [low, high] = [0, found.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (found[middle] < seq) low = middle + 1; else high = middle;
  }
  return found.length ? clock(shown.event_ms[low]) : "";
}

const times = (_plot, splits) => splits.map(timeAt);
const sync = { key: "price" };

function priceOptions(paint) {
  const { color, size } = paint;
  const colors = Object.fromEntries(["buy", "sell", "bad", "panel"].map((name) => [name, color(name)]));
  return {
    scales: { x: { time: false }, y: { range: (_plot, low, high) => [low - (high - low || 1) * 0.12, high + (high - low || 1) * 0.08] } },
    axes: [axis(paint, { values: times, space: 90 }), axis(paint, { size: Math.round(size * 4), values: (_plot, splits) => splits.map((value) => number(value, 2)) })],
    series: [{}, line(color("price"), { width: 1.6 }), line(color("short"), { dash: [7, 4] }), line(color("long"), { dash: [2, 3], width: 2 })],
    cursor: { sync },
    hooks: { draw: [(plot) => { ribbon(plot, colors); markers(plot, colors, size); }] },
  };
}

function sentimentOptions(paint) {
  const { color, size } = paint;
  return {
    scales: { x: { time: false }, y: { range: [0, 100] } },
    axes: [axis(paint, { values: () => [], size: 6 }), axis(paint, { size: Math.round(size * 4), splits: () => [0, 50, 100] })],
    series: [{}, line(color("accent"), { paths: uPlot.paths.stepped({ align: 1 }), fill: color("accent-ground"), spanGaps: true })],
    cursor: { sync },
    hooks: { draw: [(plot) => thresholds(plot, color("edge"))] },
  };
}

function thresholds(plot, stroke) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = stroke;
  ctx.setLineDash([4, 4]);
  for (const level of new Set([fixed?.bullish, fixed?.bearish])) {
    const y = plot.valToPos(level, "y", true);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
  }
  ctx.restore();
}

// A strip at the bottom: above its middle while both signals say BUY, below while both say SELL.
function ribbon(plot, colors) {
  const { ctx, bbox } = plot;
  const height = 5 * devicePixelRatio;
  const middle = bbox.top + bbox.height - height - 2;
  ctx.save();
  ctx.globalAlpha = 0.75;
  for (let at = 0; at < shown.seq.length; at++) {
    const signal = shown.signal[at];
    if (!signal) continue;
    const left = plot.valToPos(shown.seq[at], "x", true);
    const right = at + 1 < shown.seq.length ? plot.valToPos(shown.seq[at + 1], "x", true) : left + 2;
    ctx.fillStyle = signal > 0 ? colors.buy : colors.sell;
    ctx.fillRect(left, signal > 0 ? middle - height : middle, Math.max(right - left, 1), height);
  }
  ctx.restore();
}

function markers(plot, colors, size) {
  const { ctx, bbox } = plot;
  const r = size * 0.5 * devicePixelRatio;
  const [low, high] = [plot.scales.x.min, plot.scales.x.max];
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.setLineDash([]); // the dotted line before has left its own
  ctx.lineWidth = 1.2 * devicePixelRatio;
  for (const order of ordersOf(symbol)) {
    if (order.seq < low || order.seq > high || order.at === null) continue;
    const x = plot.valToPos(order.seq, "x", true);
    const y = plot.valToPos(order.at, "y", true);
    ctx.beginPath();
    if (order.refused) {
      ctx.strokeStyle = colors.bad;
      ctx.lineWidth = 2.2 * devicePixelRatio;
      ctx.moveTo(x - r, y - r); ctx.lineTo(x + r, y + r);
      ctx.moveTo(x + r, y - r); ctx.lineTo(x - r, y + r);
      ctx.stroke();
      continue;
    }
    const up = order.side === "BUY" ? -1 : 1;
    ctx.moveTo(x, y + up * r * 1.2); ctx.lineTo(x + r, y - up * r * 0.7); ctx.lineTo(x - r, y - up * r * 0.7);
    ctx.closePath();
    ctx.fillStyle = order.filled ? (up < 0 ? colors.buy : colors.sell) : colors.panel;
    ctx.strokeStyle = order.filled ? colors.panel : up < 0 ? colors.buy : colors.sell;
    ctx.fill();
    ctx.stroke();
  }
  ctx.restore();
}

export function repaint() {
  charts?.price.repaint();
  charts?.sentiment.repaint();
}
