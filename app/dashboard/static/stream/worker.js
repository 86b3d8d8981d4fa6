// One stream for all tabs of a browser: each takes one of the six connections that it has to a host.
//
// A shared worker.  A tab says which symbol it shows; the stream has those of all tabs, and begins
// again when that changes.  A tab that does not read is forgotten, and asks again when it wakes.

"use strict";

const SYMBOLS_MAX = 16; // of one stream; see app/dashboard/web.py
const UNREAD_MAX = 50; // messages, at five a second
const SETTLE_MS = 30; // tabs that come together have one stream together

const tabs = new Map(); // port -> { symbol, unread, isNew }
let source = null;
let asked = [];
let timer = 0;

self.addEventListener("connect", ({ ports: [port] }) => {
  port.addEventListener("message", ({ data }) => hear(port, data));
  port.start();
});

function hear(port, { op, symbol }) {
  if (op === "open") {
    tabs.set(port, { symbol, unread: 0, isNew: true });
    clearTimeout(timer);
    timer = setTimeout(begin, SETTLE_MS);
  } else if (op === "close") {
    forget(port);
  } else if (tabs.has(port)) {
    tabs.get(port).unread = 0;
  }
}

function begin() {
  source?.close();
  if (!tabs.size) return;
  asked = [...new Set([...tabs.values()].map((tab) => tab.symbol))];
  for (const symbol of asked.splice(SYMBOLS_MAX)) {
    for (const [port, tab] of tabs) if (tab.symbol === symbol) leave(port, { full: true });
  }
  source = new EventSource(`/events?${asked.map((symbol) => `symbol=${encodeURIComponent(symbol)}`).join("&")}`);
  source.addEventListener("message", (event) => spread(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    const isClosed = source.readyState === EventSource.CLOSED;
    for (const port of tabs.keys()) port.postMessage({ lost: true, isClosed });
  });
}

function spread({ others, ...first }) {
  for (const [port, tab] of tabs) {
    // A new tab begins with everything; one whose symbol is not in this stream waits for the next.
    if (!asked.includes(tab.symbol) || (tab.isNew && !first.reset)) continue;
    tab.isNew = false;
    if (++tab.unread > UNREAD_MAX) leave(port, { lost: true, isClosed: false });
    else port.postMessage({ snapshot: { ...first, ...others?.[tab.symbol] } });
  }
}

function leave(port, message) {
  forget(port);
  port.postMessage(message);
}

function forget(port) {
  tabs.delete(port);
  if (!tabs.size) source?.close();
}
