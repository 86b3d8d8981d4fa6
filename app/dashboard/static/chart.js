// A uPlot chart that follows its box, the theme, and the pointer.

import { color, el } from "./dom.js";

const rem = () => parseFloat(getComputedStyle(document.documentElement).fontSize);

export class Chart {
  // `options(paint)` gives uPlot's options in the colours of the theme; `tip(at)` the lines of the tooltip.
  constructor(node, options, { tip = null } = {}) {
    this.node = node;
    this.options = options;
    this.tip = tip;
    this.data = null;
    this.plot = null;
    this.box = el("div", { class: "tip-box", hidden: "" });
    new ResizeObserver(() => this.resize()).observe(node);
  }

  set(data) {
    this.data = data;
    if (!this.plot) this.make();
    else this.plot.setData(data);
  }

  make() {
    const { clientWidth: width, clientHeight: height } = this.node;
    if (!width || !height || !this.data) return;
    const font = `${Math.round(rem() * 0.76)}px system-ui, "DejaVu Sans", sans-serif`;
    const paint = { color, font, size: rem() };
    const made = this.options(paint);
    made.width = width;
    made.height = height;
    made.legend = { show: false };
    made.cursor = { drag: { setScale: false }, points: { size: 7 }, ...made.cursor };
    made.hooks = { ...made.hooks, setCursor: [...(made.hooks?.setCursor ?? []), (plot) => this.point(plot)] };
    this.plot = new uPlot(made, this.data, this.node);
    this.node.append(this.box);
  }

  resize() {
    if (!this.plot) this.make();
    else this.plot.setSize({ width: this.node.clientWidth, height: this.node.clientHeight });
  }

  repaint() {
    this.plot?.destroy();
    this.plot = null;
    this.make();
  }

  redraw() { this.plot?.redraw(false, false); }

  point(plot) {
    const { idx, left, top } = plot.cursor;
    const lines = this.tip && idx !== null && idx !== undefined && left >= 0 ? this.tip(idx) : null;
    this.box.hidden = !lines;
    if (!lines) return;
    this.box.replaceChildren(...lines.map((line) => el("div", {}, line)));
    const x = left + plot.bbox.left / devicePixelRatio;
    const y = top + plot.bbox.top / devicePixelRatio;
    const over = x + this.box.offsetWidth + 20 > this.node.clientWidth;
    this.box.style.left = `${Math.max(over ? x - this.box.offsetWidth - 12 : x + 12, 0)}px`;
    this.box.style.top = `${Math.max(Math.min(y + 8, this.node.clientHeight - this.box.offsetHeight - 4), 0)}px`;
  }
}

export function axis(paint, more) {
  const { color: of, font, size } = paint;
  const thin = { stroke: of("grid"), width: 1 };
  return { stroke: of("muted"), font, grid: thin, ticks: { ...thin, size: 4 }, gap: 4, size: Math.round(size * 1.7), ...more };
}

export const line = (stroke, more = {}) => ({ stroke, width: 1.5, points: { show: false }, spanGaps: false, ...more });
