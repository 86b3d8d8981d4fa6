// What was lost, refused or repeated: each counter, also at zero.

import { $, attr, el, kind, number, text } from "../dom.js";

const rows = [];
const SERVICES = { gateway: "gateway", orderbook: "orderbook", strategy: "strategy", order_manager: "order manager", dashboard: "dashboard" };

export function update(snapshot, context) {
  const names = context.static?.losses;
  if (!names) return;
  if (rows.length !== names.length) build(names);
  let some = 0;
  let real = 0;
  snapshot.state.losses.forEach((value, at) => {
    const { line, cell } = rows[at];
    const found = value > 0;
    const harmful = found && !names[at].harmless;
    some += found;
    real += harmful;
    text(cell, number(value));
    kind(line, "", found ? (harmful ? "some real" : "some") : "");
  });
  const words = real ? `${real} to look at` : some ? "nothing lost; some was repeated" : "all zero";
  text($("losses-sum"), words);
  kind($("losses-sum"), "head-right", real ? "real" : some ? "some" : "");
}

function build(names) {
  rows.length = 0;
  $("loss-list").replaceChildren(...names.map((row) => {
    const cell = el("dd", { class: "num" }, "0");
    const line = el("div", {}, el("dt", {}, row.name), cell);
    attr(line, "title", `${SERVICES[row.service]}: ${row.meaning}`);
    rows.push({ line, cell });
    return line;
  }));
}
