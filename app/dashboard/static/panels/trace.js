// The trace of one order: when it passed which stage, as a waterfall.

import { $, el, micros, number, svg, text } from "../dom.js";
import { setView, view } from "../view.js";

let shown = null;

export function start() {
  $("trace").addEventListener("close", () => { shown = null; setView({ order: "" }); });
  if (view.order) {
    const at = view.order.lastIndexOf(":");
    open({ client: view.order.slice(0, at), id: Number(view.order.slice(at + 1)) });
  }
}

export function update() { /* a trace is asked for once */ }

export async function open(order) {
  shown = order;
  setView({ order: `${order.client}:${order.id}` });
  text($("h-trace"), `Trace of order ${order.id}`);
  $("trace-body").replaceChildren(el("p", { class: "muted" }, "Asking…"));
  if (!$("trace").open) $("trace").showModal();
  const query = new URLSearchParams({ client: order.client, id: order.id });
  let answer;
  try {
    answer = await (await fetch(`/trace?${query}`)).json();
  } catch (error) {
    answer = { ok: false, msg: `no answer from the dashboard: ${error.message}` };
  }
  if (shown === order) show(order, answer);
}

function show(order, answer) {
  if (!answer.ok) {
    $("trace-body").replaceChildren(el("p", {}, answer.msg));
    return;
  }
  const parts = [];
  answer.attempts.forEach((attempt, at) => {
    if (answer.attempts.length > 1) parts.push(el("h3", {}, `Attempt ${at + 1} of ${answer.attempts.length}`));
    parts.push(waterfall(attempt.stages));
  });
  $("trace-body").replaceChildren(...parts);
}

function waterfall(stages) {
  const whole = Math.max(stages.at(-1)?.at_us ?? 0, 1);
  let before = 0;
  return el("ol", { class: "waterfall" }, ...stages.map((stage) => {
    const bar = svg("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { x: (before / whole) * 1000, y: 0, width: Math.max(((stage.at_us - before) / whole) * 1000, 3), height: 10, rx: 2 }));
    const took = stage.at_us - before;
    before = stage.at_us;
    return el("li", {}, el("span", {}, stage.name), el("span", { class: "track" }, bar), el("span", { class: "num" }, `+${micros(took)}`));
  }));
}

export const fields = { number };
