// The pipeline: a card for each process, and between them a drawing of what flows.

import { $, age, attr, command, el, kind, light, number, rate, svg, text } from "../dom.js";

const NAMES = { gateway: "Gateway", orderbook: "Orderbook", strategy: "Strategy", order_manager: "Order manager" };
const ORDER = Object.keys(NAMES);
const FRESH_MS = 10000;
const cards = new Map();
let drawn = "";
let labels = {};

export function start() {
  const list = document.querySelector(".stages");
  for (const service of ORDER) list.append(makeCard(service));
  new ResizeObserver(() => draw(true)).observe($("pipeline"));
}

function makeCard(service) {
  const icon = svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", class: "light" });
  const name = el("h3", {}, NAMES[service]);
  const word = el("span", { class: "word" }, "-");
  const values = {};
  const list = el("dl");
  for (const [key, label] of [["age", "Data age"], ["rate", "Rate"], ["queue", "Queue"], ["restarts", "Restarts"]]) {
    values[key] = el("dd", {}, "-");
    list.append(el("div", {}, el("dt", {}, label), values[key]));
  }
  const faults = el("div", { class: "faults", hidden: "" });
  const card = el("li", { class: "stage", id: `stage-${service}` }, el("div", { class: "stage-head" }, icon, name, word), list, faults);
  cards.set(service, { card, icon, name, word, values, faults, known: null, restartedAt: -Infinity });
  fillFaults(service, faults);
  return card;
}

function fillFaults(service, node) {
  const name = NAMES[service].toLowerCase();
  const seconds = el("input", { type: "number", min: "0.5", max: "60", step: "0.5", value: "3", "aria-label": `Seconds for which the ${name} freezes` });
  const said = el("span", { class: "sr", role: "status" });
  const press = async (op, extra) => {
    const answer = await command("/commands/fault", { op, service, ...extra });
    text(said, answer.ok ? `${name}: ${op}` : answer.msg);
    kind($("answer"), "answer", answer.ok ? "" : "bad");
    text($("answer"), answer.ok ? `Asked the ${name} to ${op} itself.` : answer.msg);
  };
  const button = (op, label, extra) => el("button", { type: "button", class: op, "aria-label": `${label} the ${name}`, onclick: () => press(op, extra()) }, label);
  const freeze = el("span", { class: "freezes" }, button("freeze", "Freeze", () => ({ seconds: Number(seconds.value) })), seconds, el("span", { class: "unit", "aria-hidden": "true" }, "s"));
  node.append(button("kill", "Kill", () => ({})), button("cut", "Cut", () => ({})), freeze, said);
}

export function update(snapshot, context) {
  const { services, run } = snapshot.state;
  const chaos = Boolean(context.static?.chaos);
  for (const row of services) show(row, chaos);
  const fixed = context.static;
  if (fixed) attr(cards.get("strategy").name, "title", `${fixed.strategy}, parameters: ${fixed.strategy_params}`);
  const find = (name) => services.find((row) => row.service === name) ?? {};
  const orders = find("order_manager").rate ?? 0;
  labels = {
    prices: find("gateway").rate ? rate(find("gateway").rate) : "",
    memory: run.feed_age_s === null ? "" : `${age(run.feed_age_s)} old`,
    orders: orders ? rate(orders) : "",
    flows: [find("gateway").rate > 0, find("orderbook").rate > 0, orders > 0],
  };
  draw(false);
}

function show(row, chaos) {
  const { card, icon, name, word, values, faults } = cards.get(row.service);
  markRestart(cards.get(row.service), row.restarts);
  kind(card, "stage", row.light);
  light(icon, row.light);
  text(name, NAMES[row.service] + (row.instances > 1 ? ` ×${row.instances}` : ""));
  text(word, row.state);
  text(values.age, age(row.age_s));
  attr(values.age, "title", row.beat_s === undefined ? "" : `last heartbeat ${age(row.beat_s)} ago`);
  text(values.rate, rate(row.rate));
  text(values.queue, row.queue === null || row.queue === undefined ? "–" : number(row.queue));
  text(values.restarts, row.restarts === undefined ? "-" : number(row.restarts));
  if (faults.hidden === chaos) faults.hidden = !chaos;
}

// A process is often back before anybody has looked: its counter stands out for a while.
function markRestart(made, restarts = null) {
  if (made.known !== null && restarts > made.known) made.restartedAt = performance.now();
  made.known = restarts ?? made.known;
  made.values.restarts.classList.toggle("fresh", performance.now() - made.restartedAt < FRESH_MS);
}

// Lines from card to card where they are now: in a row, or on a narrow screen in a column.
function draw(anew) {
  const node = document.querySelector(".wires");
  const frame = $("pipeline").getBoundingClientRect();
  const boxes = ORDER.map((service) => {
    const box = cards.get(service).card.getBoundingClientRect();
    return { left: box.left - frame.left, right: box.right - frame.left, top: box.top - frame.top, bottom: box.bottom - frame.top, x: box.left - frame.left + box.width / 2, y: box.top - frame.top + box.height / 2 };
  });
  const key = JSON.stringify([boxes.map((box) => [box.left, box.top, box.right, box.bottom]), labels]);
  if (!anew && key === drawn) return;
  drawn = key;
  const row = boxes[1].left > boxes[0].right - 1;
  const parts = [];
  const line = (d, flows) => parts.push(svg("path", { d }), ...(flows ? [svg("path", { d, class: "flow" })] : []));
  const words = (x, y, value, name = "") => { if (value) parts.push(svg("text", { x, y, class: name }, value)); };
  const [gateway, , strategy] = boxes;
  const names = [["prices", labels.prices], ["shared memory", labels.memory], ["orders", labels.orders]];
  names.forEach(([what, value], at) => {
    const [from, to] = [boxes[at], boxes[at + 1]];
    if (row) {
      const y = from.top + 34;
      line(`M${from.right + 2} ${y}H${to.left - 9}`, labels.flows?.[at]);
      parts.push(svg("path", { d: `M${to.left - 2} ${y}l-9 -4.5v9z`, class: "tip" }));
      const x = (from.right + to.left) / 2;
      words(x, y - 8, what);
      words(x, y + 17, value, "rate");
    } else {
      line(`M${from.x} ${from.bottom + 2}V${to.top - 9}`, labels.flows?.[at]);
      parts.push(svg("path", { d: `M${from.x} ${to.top - 2}l-4.5 -9h9z`, class: "tip" }));
      words(from.x + 10, (from.bottom + to.top) / 2 + 4, value ? `${what}, ${value}` : what, "start");
    }
  });
  if (row) {
    const y = gateway.top - 14;
    line(`M${gateway.x} ${gateway.top - 2}V${y}H${strategy.x}V${strategy.top - 9}`, labels.flows?.[0]);
    parts.push(svg("path", { d: `M${strategy.x} ${strategy.top - 2}l-4.5 -9h9z`, class: "tip" }));
    words((gateway.x + strategy.x) / 2, y - 6, "sentiment");
  } else {
    const x = gateway.right + 14;
    line(`M${gateway.right + 2} ${gateway.y}H${x}V${strategy.y}H${strategy.right + 9}`, labels.flows?.[0]);
    parts.push(svg("path", { d: `M${strategy.right + 2} ${strategy.y}l9 -4.5v9z`, class: "tip" }));
  }
  node.replaceChildren(...parts);
}
