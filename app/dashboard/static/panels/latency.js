// Latency percentiles from the tick to shared memory, to the decision, to the ACK.

import { Chart, axis, line } from "../chart.js";
import { $, attr, micros, number, table } from "../dom.js";
import { setView, view } from "../view.js";

const DASHES = [[], [8, 4], [2, 3], [8, 3, 2, 3]];
const COLORS = ["price", "short", "long", "sell"];
const MAX_AT = 4.7;
const TICKS = [[0, "0"], [50, "50"], [90, "90"], [99, "99"], [99.9, "99.9"], [99.99, "99.99"], [100, "max"]];
const SHOWN = [50, 90, 99, 99.9, 100];
let latest = null;
let chart = null;

export function start() {
  const radios = [...document.querySelectorAll("input[name=latency-of]")];
  (radios.find((radio) => radio.value === view.latency) ?? radios[0]).checked = true;
  for (const radio of radios) radio.addEventListener("change", () => { setView({ latency: radio.value }); draw(); });
}

export function update(snapshot) {
  const found = snapshot.latency ?? snapshot.state.latency;
  if (!found) return;
  latest = found;
  draw();
}

const at = (level) => (level >= 100 ? MAX_AT : -Math.log10(1 - level / 100));
const span = () => (view.latency === "whole" ? "whole" : "recent");

function draw() {
  if (!latest) return;
  const { levels, curves } = latest;
  const values = curves.map((curve) => curve[span()]);
  const empty = levels.map(() => null);
  if (!chart) chart = new Chart($("latency-chart"), options, { tip });
  chart.set([levels.map(at), ...values.map((each) => (each.count ? each.us.map((us) => Math.max(us, 0.1)) : empty))]);
  const rows = curves.map((curve) => {
    const { count, us } = curve[span()];
    return [curve.name, ...SHOWN.map((level) => (count ? micros(us[levels.indexOf(level)]) : "-"))];
  });
  table($("latency-table"), ["Tick to", "p50", "p90", "p99", "p99.9", "max"], rows);
  curves.forEach((curve, row) => attr($("latency-table").tBodies[0].rows[row].cells[0], "title", `${curve.meaning}: ${number(curve[span()].count)} times`));
  const ack = curves.findIndex((curve) => curve.name === "ACK");
  const us = values[ack]?.us ?? [];
  attr($("latency-chart"), "aria-label", us.length ? `Latency from tick to ACK: half within ${micros(us[levels.indexOf(50)])}, 99 percent within ${micros(us[levels.indexOf(99)])}. The table below has the values.` : "No latency recorded yet.");
}

function tip(index) {
  const { levels, curves } = latest;
  const level = levels[index];
  const name = level >= 100 ? "max" : `p${level}`;
  return [name, ...curves.filter((curve) => curve[span()].count).map((curve) => `${curve.name}: ${micros(curve[span()].us[index])}`)];
}

function options(paint) {
  const { color, size } = paint;
  return {
    scales: { x: { time: false, range: [0, MAX_AT + 0.15] }, y: { distr: 3 } },
    axes: [
      axis(paint, { splits: () => TICKS.map(([level]) => at(level)), values: () => TICKS.map(([, name]) => name), space: 1 }),
      axis(paint, { size: Math.round(size * 4), values: (_plot, splits) => splits.map((us) => (us !== null && Math.log10(us) % 1 === 0 ? micros(us).replace(".0 ", " ") : "")) }),
    ],
    series: [{}, ...DASHES.map((dash, row) => line(color(COLORS[row]), { dash, width: 2 }))],
  };
}

export function repaint() { chart?.repaint(); }
