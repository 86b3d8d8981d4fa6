// Small helpers: elements, text that is only written when it changes, numbers and times.

export const $ = (id) => document.getElementById(id);

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function kind(node, base, name) {
  const wanted = name ? `${base} ${name}` : base;
  if (node.className !== wanted) node.className = wanted;
}

export function attr(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

const formats = new Map();
export function number(value, digits = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  if (!formats.has(digits)) {
    formats.set(digits, new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  }
  return formats.get(digits).format(value).replace("-", "−");
}

export const signed = (value, digits = 2) => (value > 0 ? "+" : "") + number(value, digits);

// A quantity with the decimals it has, at most nine: as a number, or as exact text.
export function qty(value) {
  if (value === null || value === undefined) return "-";
  const digits = Number(value).toFixed(9).replace(/0+$/, "").split(".")[1]?.length ?? 0;
  return number(Number(value), digits);
}

// A price with the digits it has, at least two.
export function price(value) {
  if (value === null || value === undefined) return "-";
  const digits = String(value).split(".")[1]?.length ?? 0;
  return number(Number(value), Math.min(Math.max(digits, 2), 9));
}

export function rate(value) {
  if (value === null || value === undefined) return "-";
  if (value >= 10000) return `${number(value / 1000, value < 100000 ? 1 : 0)}k/s`;
  return `${number(value, value < 10 && value > 0 ? 1 : 0)}/s`;
}

export function age(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  if (seconds < 10) return `${number(seconds, seconds < 1 ? 2 : 1)} s`;
  if (seconds < 120) return `${number(seconds)} s`;
  if (seconds < 7200) return `${number(seconds / 60)} min`;
  return `${number(seconds / 3600)} h`;
}

export function micros(us) {
  if (us === null || us === undefined) return "-";
  if (us < 10) return `${number(us, 1)} µs`;
  if (us < 1000) return `${number(us)} µs`;
  if (us < 1e6) return `${number(us / 1000, us < 1e4 ? 2 : 1)} ms`;
  return `${number(us / 1e6, 1)} s`;
}

const pad = (value, width = 2) => String(value).padStart(width, "0");

// Event times and wall times are UTC, as in the data and in the log.
export function clock(ms, { date = false, millis = false } = {}) {
  if (ms === null || ms === undefined) return "-";
  const at = new Date(ms);
  const day = `${at.getUTCFullYear()}-${pad(at.getUTCMonth() + 1)}-${pad(at.getUTCDate())}`;
  const time = `${pad(at.getUTCHours())}:${pad(at.getUTCMinutes())}:${pad(at.getUTCSeconds())}`;
  return (date ? `${day} ` : "") + time + (millis ? `.${pad(at.getUTCMilliseconds(), 3)}` : "");
}

const LIGHTS = {
  ok: ["circle", { cx: 8, cy: 8, r: 6.6 }, "M5 8.3l2.1 2.2L11 6"],
  busy: ["circle", { cx: 8, cy: 8, r: 6.6, "stroke-dasharray": "3.2 3.2" }, ""],
  warn: ["path", { d: "M8 1.6l6.6 12.4H1.4z" }, "M8 6v3.6M8 11.8v.1"],
  bad: ["path", { d: "M5 1.4h6L14.6 5v6L11 14.6H5L1.4 11V5z" }, "M5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8"],
  off: ["circle", { cx: 8, cy: 8, r: 6.6 }, "M3.6 12.4l8.8-8.8"],
};

// A light has a shape for each state: a colour alone would not do.
export function light(node, name) {
  if (node.dataset.light === name) return;
  node.dataset.light = name;
  node.setAttribute("class", `light ${name}`);
  const [shape, attributes, mark] = LIGHTS[name] ?? LIGHTS.off;
  node.replaceChildren(svg(shape, attributes), svg("path", { d: mark }));
}

export function table(node, header, rows) {
  if (node.tHead === null || node.dataset.header !== header.join("|")) {
    node.dataset.header = header.join("|");
    const cells = header.map((name, at) => el("th", { scope: "col", class: at ? "num" : "" }, name));
    node.replaceChildren(el("thead", {}, el("tr", {}, ...cells)), el("tbody"));
  }
  const body = node.tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, at) => {
    const line = body.rows[at] ?? body.insertRow();
    row.forEach((value, column) => {
      let cell = line.cells[column];
      if (!cell) {
        cell = el(column ? "td" : "th", column ? { class: "num" } : { scope: "row" });
        line.append(cell);
      }
      text(cell, String(value));
    });
  });
}

let probe = null;
export function color(name) {
  if (!probe) { probe = el("span", { class: "sr", "aria-hidden": "true" }); document.body.append(probe); }
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

// A stack has one answer per command: shown beside the controls, and read out.
export async function command(path, body) {
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-trading-command": "1" },
      body: JSON.stringify(body),
    });
    const answer = await response.json();
    return answer.ok ? answer : { ok: false, msg: answer.msg ?? `status ${response.status}` };
  } catch (error) {
    return { ok: false, msg: `no answer from the dashboard: ${error.message}` };
  }
}
