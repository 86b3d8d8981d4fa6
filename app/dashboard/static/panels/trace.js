// The trace of one order: when it passed which stage, as a waterfall, for each time that it was sent.

import { $, el, micros, number, qty, svg, text } from "../dom.js";
import { setView, view } from "../view.js";

const NAMES = { due: "Due", tick_sent: "Tick sent", tick_received: "Tick received", published: "In shared memory", decided: "Decided", order_sent: "Order sent", order_received: "Order received", committed: "Committed", ack_sent: "ACK sent", ack_received: "ACK received" };
const WHO = { due: "gateway", tick_sent: "gateway", tick_received: "orderbook", published: "orderbook", decided: "strategy", order_sent: "strategy", order_received: "order manager", committed: "order manager", ack_sent: "order manager", ack_received: "strategy" };
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
    answer = { ok: false, msg: `No answer from the dashboard: ${error.message}` };
  }
  if (shown === order) show(order, answer);
}

function show(order, answer) {
  const facts = [["Client", order.client]];
  if (order.side) facts.push(["Order", `${order.side} ${qty(order.qty)} ${order.symbol}`], ["Status", order.status]);
  if (answer.tick !== undefined && answer.tick !== null) facts.push(["Tick", number(answer.tick)]);
  const parts = [el("dl", { class: "trace-facts" }, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))))];
  if (order.msg) parts.push(el("p", { class: "status-bad" }, `${order.code}: ${order.msg}`));
  if (!answer.ok) parts.push(el("p", {}, answer.msg));
  const attempts = answer.attempts ?? [];
  attempts.forEach((attempt, at) => {
    const kinds = [attempt.recovery && "sent again by a restarted strategy", attempt.repeated && "answered from the store", attempt.answer === null && "no answer came"].filter(Boolean);
    const title = attempts.length > 1 ? `Attempt ${at + 1} of ${attempts.length}` : "Stages";
    parts.push(el("h3", {}, kinds.length ? `${title}: ${kinds.join(", ")}` : title), waterfall(attempt.stages));
  });
  $("trace-body").replaceChildren(...parts);
}

// Each stage begins where the one before has ended.
function waterfall(stages) {
  const begin = stages[0]?.at_us ?? 0;
  const whole = Math.max((stages.at(-1)?.at_us ?? 0) - begin, 1);
  let before = begin;
  return el("ol", { class: "waterfall" }, ...stages.map((stage) => {
    const took = stage.at_us - before;
    const bar = svg("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { x: ((before - begin) / whole) * 996, y: 0, width: Math.max((took / whole) * 996, 4), height: 10 }));
    before = stage.at_us;
    const name = el("span", { class: "stage-name", title: stage.meaning }, NAMES[stage.name] ?? stage.name, el("small", {}, WHO[stage.name] ?? ""));
    return el("li", {}, name, el("span", { class: "track" }, bar), el("span", { class: "num" }, stage.at_us === begin ? "0 µs" : `+${micros(took)}`), el("span", { class: "num muted" }, micros(stage.at_us - begin)));
  }));
}
