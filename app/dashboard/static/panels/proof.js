// The proof: the same run, computed a second time without disturbance, has the same trades.

import { $, el, kind, light, number, text } from "../dom.js";

const BEHIND = 50; // orders that are on their way, rather than a computation that catches up
let shown = "";

export function update(snapshot) {
  const { line, problem } = snapshot.state.proof;
  const key = JSON.stringify([line, problem]);
  if (key === shown) return;
  shown = key;
  const [name, words, more] = judge(line, problem);
  kind($("proof"), "panel proof", name);
  light($("proof").querySelector(".light"), name);
  if (Array.isArray(words)) $("proof-text").replaceChildren(...words);
  else text($("proof-text"), words);
  text($("proof-more"), more);
}

function judge(line, problem) {
  if (!line) return ["off", `No proof here: ${problem}`, ""];
  const { equal, expected, seen, ticks, hash, note, difference } = line;
  const all = Math.max(expected, seen);
  if (difference) return ["bad", tell(difference), `${number(equal)} of ${number(all)} orders are equal. The first difference counts; later ones may follow from it.`];
  const more = [`Computed a second time, undisturbed: ${number(ticks)} ticks.`, problem || note].filter(Boolean).join(" ");
  if (!equal) return ["busy", note ? `No order compared yet: ${note}` : "No order compared yet.", more];
  const words = ["Same trades: ", el("b", {}, `${number(equal)} of ${number(all)}`), " orders equal, hash ", el("code", {}, hash)];
  // What was equal may be so no longer while nothing is compared.
  return [problem || all - equal > BEHIND ? "busy" : "ok", words, more];
}

function tell({ client, id, tick, field, expected, seen }) {
  const order = `order ${number(id)} of ${client}, on tick ${number(tick)}`;
  if (field === "trades hash") return `The trades differ, from ${order}, on: the trades hash is ${seen}, and should be ${expected}.`;
  if (seen === null) return `The trades differ: ${order} is missing. Expected: ${expected}.`;
  if (expected === null) return `The trades differ: ${order} should not be there: ${seen}.`;
  return `The trades differ: ${order} has ${field} ${seen}, and should have ${expected}.`;
}
