// The proof: the same run, computed a second time without disturbance, has the same trades.

import { $, kind, light, number, text } from "../dom.js";

export function update(snapshot) {
  const { line, problem } = snapshot.state.proof;
  const [name, words, more] = judge(line, problem);
  kind($("proof"), "panel proof", name);
  light($("proof").querySelector(".light"), name);
  text($("proof-text"), words);
  text($("proof-more"), more);
}

function judge(line, problem) {
  if (!line) return ["off", `No proof here: ${problem}`, ""];
  if (line.problem) return ["off", `No proof here: ${line.problem}`, ""];
  if (line.difference) return ["bad", "The trades differ.", tell(line.difference)];
  const { equal, expected, seen, ticks } = line;
  const hash = line.hash ? `, hash ${line.hash}` : "";
  const more = `Computed a second time without disturbance: ${number(ticks)} ticks, ${number(expected)} orders; the order manager has ${number(seen)}.`;
  if (!expected && !seen) return ["busy", "No order to compare yet.", more];
  const state = equal === seen && equal === expected ? "ok" : "busy";
  return [state, `Same trades: ${number(equal)} of ${number(Math.max(expected, seen))} orders equal${hash}`, more];
}

// The first difference, whatever members it has, in words.
function tell(difference) {
  if (typeof difference === "string") return difference;
  if (difference.text) return difference.text;
  return Object.entries(difference).map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join("; ");
}
