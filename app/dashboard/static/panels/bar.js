// The bar: what the market does, when and how fast; pause, step, speed, jump.

import { $, attr, clock, command, kind, number, rate, text } from "../dom.js";

const PLAY = "M4 2.5l9 5.5-9 5.5z";
const PAUSE = "M4 3h3v10H4zM9 3h3v10H9z";
let market = null;
let busy = false;

export function start() {
  $("play").addEventListener("click", togglePlay);
  $("step").addEventListener("click", step);
  $("pace-set").addEventListener("click", setPace);
  $("seek-go").addEventListener("click", jump);
  $("transport").addEventListener("submit", (event) => event.preventDefault());
  for (const [input, does] of [["step-n", step], ["pace", setPace], ["seek", jump]]) {
    $(input).addEventListener("keydown", (event) => {
      if (event.key === "Enter") { event.preventDefault(); does(); }
    });
  }
}

export function togglePlay() {
  if (market) tell({ op: market.paused ? "resume" : "pause" });
}

export function step() {
  const ticks = Number($("step-n").value);
  if (!Number.isInteger(ticks) || ticks < 1) return say("A step has a whole number of ticks, 1 or more.", false);
  return tell({ op: "step", ticks });
}

function setPace() {
  const pace = $("pace").value.trim();
  if (!pace) return say("Speed: ticks per second (1000/s), a multiple of event time (60x), or max.", false);
  return tell({ op: "speed", pace });
}

function jump() {
  const where = $("seek").value.trim();
  if (!where) return say("Jump to a tick (12000) or a time (2025-10-01 10:00:00).", false);
  const digits = where.replaceAll(/[,_ ]/g, "");
  return tell(/^\d{1,15}$/.test(digits) ? { op: "seek", tick: Number(digits) } : { op: "seek", time: where });
}

async function tell(request) {
  if (busy) return;
  busy = true;
  const answer = await command("/commands/transport", request);
  busy = false;
  if (answer.ok) show({ paused: answer.market.paused, until: answer.market.until, pace: answer.market.pace });
  say(answer.ok ? describe(answer.market) : answer.msg, answer.ok);
}

function describe(found) {
  const at = `at tick ${number(found.tick)}`;
  if (found.mode === "hurry") return `Hurries to tick ${number(found.until)}.`;
  return found.paused ? `Stands still ${at}.` : `Plays at ${found.pace}, ${at}.`;
}

let said = 0;

// An answer is news for a while; a refusal stays until the next command.
function say(words, ok) {
  clearTimeout(said);
  if (ok) said = setTimeout(() => text($("answer"), ""), 8000);
  kind($("answer"), "answer", ok ? "" : "bad");
  text($("answer"), words);
}

function show(found) {
  market = found;
  const known = found !== null;
  for (const id of ["play", "step", "step-n", "pace", "pace-set", "seek", "seek-go"]) {
    if ($(id).disabled === known) $(id).disabled = !known;
  }
  const paused = Boolean(found?.paused);
  text($("play").lastElementChild, paused ? "Resume" : "Pause");
  attr($("play").querySelector("path"), "d", paused ? PLAY : PAUSE);
  if (document.activeElement !== $("pace")) attr($("pace"), "placeholder", found?.pace ?? "1000/s");
}

export function update(snapshot, context) {
  const { run, account } = snapshot.state;
  const fixed = context.static;
  const { mode, replay } = fixed ?? {};
  badge("mode", mode === "live" ? "LIVE" : "REPLAY", mode === "live" ? "warn" : "info");
  show(run.market);
  const over = run.ticks_total > 0 && run.seq === run.ticks_total;
  const hurries = run.market?.until;
  if (over) badge("market", "RUN OVER", "");
  else if (hurries) badge("market", `JUMPING TO ${number(hurries)}`, "warn");
  else if (run.market?.paused) badge("market", "PAUSED", "warn");
  else badge("market", run.seq === null ? "NOT STARTED" : "PLAYING", run.seq === null ? "" : "ok");
  badge("trading", ...tradingOf(account));
  text($("event-time"), clock(run.event_ms, { date: true }));
  text($("tick"), run.seq === null ? "-" : number(run.seq) + (run.ticks_total ? ` of ${number(run.ticks_total)}` : ""));
  const still = run.market?.paused || over;
  const times = run.multiple === null || still ? "" : ` · ${number(run.multiple, run.multiple < 10 ? 1 : 0)}×`;
  text($("speed"), run.rate === null ? "-" : rate(run.rate) + times);
  attr($("speed"), "title", `set: ${run.market?.pace ?? fixed?.pace}; the multiple is of event time; at the end of the file: ${replay}`);
  text($("run-id"), run.id || "-");
}

function tradingOf(account) {
  if (!account.mode) return ["TRADING ?", ""];
  const worst = [account.mode, account.client_mode].find((mode) => mode && mode !== "active") ?? "active";
  if (account.problem) return [`${worst === "active" ? "TRADING" : worst.toUpperCase()}, NO NEWS`, "warn"];
  if (worst === "active") return ["TRADING", "ok"];
  return [worst.toUpperCase(), "bad"];
}

function badge(id, words, name) {
  text($(id), words);
  kind($(id), "badge", name);
}
