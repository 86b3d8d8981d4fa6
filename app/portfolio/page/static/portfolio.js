// Asks for the state once a second and shows it.

import { $, age, clock, command, kind, number, signed, table, text } from "./dom.js";

const EVERY_MS = 1000;
const PATIENCE_MS = 4000;
const SHOWN_MAX = 500;
const SILENT_S = 5; // LATE_S of app/portfolio/intake/heartbeats.py
let last = null;

function amount(node, value, base) {
  const at = Number(value);
  text(node, signed(at));
  kind(node, base, at > 0 ? "gain" : at < 0 ? "loss" : "");
}

function mark(node, names) {
  names.forEach((name, at) => kind(node.tBodies[0].rows[at], "", name));
}

function showShards(shards) {
  const rows = shards.map((s) => [
    s.shard, s.run ?? "-", s.reading ? "reading" : "not read", number(s.pending), s.lag_s === null ? "-" : age(s.lag_s),
    s.heartbeat_s === null ? "-" : age(s.heartbeat_s),
    number(s.fills), s.last_fill_ms ? clock(s.last_fill_ms, { date: true }) : "-",
    s.last_message_ms ? clock(s.last_message_ms, { date: true }) : "-", number(s.symbols),
    number(Number(s.exposure), 2), signed(Number(s.day_pnl)), signed(Number(s.pnl)),
  ]);
  table($("shards"), ["Shard", "Run", "State", "Behind", "Lag", "Heartbeat", "Fills", "Last fill, UTC", "Last message, UTC", "Positions", "Exposure", "PnL of the day", "PnL"], rows);
  mark($("shards"), shards.map((s) => (s.lost || s.refused ? "bad" : s.reading && s.lag_s === 0 ? "" : "warn")));
  const notes = [];
  for (const s of shards) {
    if (s.heartbeat_s > SILENT_S) notes.push(`${s.shard}: its publisher has been silent for ${age(s.heartbeat_s)}`);
    if (s.problem) notes.push(`${s.shard}: ${s.problem}`);
    if (s.lost) notes.push(`${s.shard}: ${s.lost} messages were gone before they were read`);
    if (s.refused) notes.push(`${s.shard}: ${s.refused} messages were no fills`);
  }
  text($("shard-notes"), notes.join("; "));
}

function showPositions(state) {
  const wanted = $("search").value.trim().toUpperCase();
  const names = state.shards.map((s) => s.shard);
  const found = state.symbols.filter((row) => row.symbol.toUpperCase().includes(wanted));
  const rows = found.slice(0, SHOWN_MAX).map((row) => [
    row.symbol, ...names.map((name) => row.shards[name] ?? ""), row.qty, number(Number(row.mark), 2),
    signed(Number(row.value)), signed(Number(row.day_pnl)), signed(Number(row.pnl)),
  ]);
  table($("positions"), ["Symbol", ...names, "Sum", "Mark", "Value", "PnL of the day", "PnL"], rows);
  text($("positions-more"), found.length > SHOWN_MAX ? `${found.length - SHOWN_MAX} more: search for a symbol` : "");
}

function showLimits(limits) {
  const rows = limits.map((l) => [
    l.limit.replace("_", " "), number(Number(l.value), 2), l.most === null ? `none (${l.setting}=0)` : number(Number(l.most), 2),
    l.used === null ? "-" : `${number(l.used * 100, 1)} %`, l.passed ? `passed: shards were told to ${l.mode}` : "kept",
  ]);
  table($("limits"), ["Limit", "Now", "Maximum", "Used", "State"], rows);
  mark($("limits"), limits.map((l) => (l.passed ? "bad" : "")));
}

function showControls(state) {
  const none = !state.breaches.length && !state.controls.length;
  $("controls-note").hidden = !none;
  for (const id of ["breaches", "controls"]) $(id).parentElement.hidden = none;
  const breaches = state.breaches.map((b) => [
    b.number, clock(b.began_ms, { date: true }), b.ended_ms === null ? "goes on" : clock(b.ended_ms, { date: true }), b.mode, b.reason,
  ]);
  table($("breaches"), ["Breach", "Began, UTC", "Kept again, UTC", "Mode", "Reason"], breaches);
  const controls = state.controls.map((c) => [
    c.id, c.shard, c.mode, clock(c.at_ms, { date: true }), c.arrived_seq === null ? "not yet in the stream" : `in the stream, ${c.arrived_seq}`,
  ]);
  table($("controls"), ["Control", "Shard", "Mode", "Decided, UTC", "Sent"], controls);
  mark($("controls"), state.controls.map((c) => (c.arrived_seq === null ? "warn" : "")));
}

function show(state) {
  const { bus, shards, total } = state;
  text($("bus"), bus.connected ? bus.server : "not connected");
  text($("shard-count"), number(shards.length));
  const lags = shards.map((s) => s.lag_s);
  text($("lag"), !shards.length ? "-" : lags.includes(null) ? "unknown" : age(Math.max(...lags)));
  text($("judges"), state.judges ? "watched" : "not yet: catching up");
  amount($("pnl"), total.pnl, "big num");
  amount($("day-pnl"), total.day_pnl, "num");
  text($("exposure"), number(Number(total.exposure), 2));
  text($("paid"), number(Number(total.fees) + Number(total.borrow), 2));
  $("logout").hidden = !state.token;
  $("notice").hidden = !bus.problem;
  text($("notice"), bus.problem ? `The bus cannot be reached: ${bus.problem}` : "");
  showLimits(state.limits);
  showShards(shards);
  showPositions(state);
  showControls(state);
}

async function ask() {
  try {
    const answer = await fetch("/state", { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.status === 401) { location.assign("/login"); return; }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    last = await answer.json();
    show(last);
    text($("stream").lastElementChild, "live");
    kind($("stream"), "stream", "live");
  } catch (error) {
    text($("stream").lastElementChild, `no answer: ${error.message}`);
    kind($("stream"), "stream", "lost");
  }
  setTimeout(ask, EVERY_MS);
}

$("search").addEventListener("input", () => { if (last) showPositions(last); });
$("logout").addEventListener("click", async () => { await command("/logout", {}); location.assign("/login"); });
ask();
