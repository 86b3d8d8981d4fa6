"""How every page looks, and its frame.

Colours have a contrast of 4.5 or more on their ground, in light and dark; lines of charts differ in
dash as well as in colour, trades in shape, gains and losses in sign.
"""

from typing import Final

from app.backtest.results.page.markup import Child, Html, html, tag

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""No script runs and nothing is loaded, whatever a name in the data says."""

STYLE: Final = """
.report { color-scheme: light dark; --ground: light-dark(#fff, #12161d);
  --raised: light-dark(#f5f7f9, #181d26); --text: light-dark(#131820, #e7ebf1);
  --muted: light-dark(#566070, #9aa5b5); --line: light-dark(#d5dbe2, #2d3542);
  --first: light-dark(#1a5bc4, #7db0ff); --second: light-dark(#8a3b05, #f0a35e);
  --buy: light-dark(#0b7264, #45d3bb); --sell: light-dark(#b3470f, #ff9b6b);
  --gain: light-dark(#1f6fb2, #3f87c4); --loss: light-dark(#c4581a, #c06a35);
  background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, -apple-system,
    "Segoe UI", Roboto, "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums;
  & *, & *::before { box-sizing: border-box; }
  & h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
  & h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; }
  & h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
  & p { margin: .2rem 0; max-width: 75ch; } & .note { color: var(--muted); }
  & code { font: .92em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere;
    unicode-bidi: isolate; }
  & .wide { overflow-x: auto; } & .wide:focus-visible, & summary:focus-visible {
    outline: 2px solid var(--first); outline-offset: 2px; }
  & table { border-collapse: collapse; font-size: .88rem; margin: .5rem 0; }
  & caption { text-align: left; color: var(--muted); padding-bottom: .2rem; }
  & th, & td { padding: .22rem .6rem; text-align: right; white-space: nowrap;
    border-bottom: 1px solid var(--line); background: none; }
  & thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
  & tbody th { font-weight: 400; text-align: left; } & th.text, & td.text { text-align: left; }
  & td.prose, & tbody th.prose { white-space: normal; text-align: left; overflow-wrap: anywhere;
    min-width: 20rem; max-width: 60ch; }
  & summary { cursor: pointer; color: var(--first); padding: .3rem 0; width: fit-content; }
  & .figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr));
    gap: .6rem; margin: 1.2rem 0 0; padding: 0; }
  & .figures div { background: var(--raised); border: 1px solid var(--line); border-radius: 8px;
    padding: .5rem .7rem; }
  & .figures dt { color: var(--muted); font-size: .85rem; }
  & .figures dd { margin: 0; font-size: 1.25rem; font-weight: 650; overflow-wrap: anywhere; }
  & figure { margin: 1rem 0 0; } & figcaption { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem;
    align-items: baseline; font-weight: 600; }
  & .key { font-weight: 400; font-size: .88rem; color: var(--muted); white-space: nowrap; }
  & .key svg { width: 2.2rem; height: .7rem; vertical-align: middle; overflow: visible; }
  & .chart { display: block; width: 100%; height: 17rem; overflow: hidden;
    border-bottom: 1px solid var(--line); }
  & .chart.low { height: 10rem; }
  & .chart text { font-size: .78rem; fill: var(--muted); paint-order: stroke;
    stroke: var(--ground); stroke-width: 4px; stroke-linejoin: round; }
  & .grid { stroke: var(--line); stroke-width: 1; } & .zero { stroke: var(--muted); }
  & .series { fill: none; stroke-width: 1.8; vector-effect: non-scaling-stroke;
    stroke-linejoin: round; }
  & .first { stroke: var(--first); } & .second { stroke: var(--second); stroke-dasharray: 5 4; }
  & .area { fill: var(--first); opacity: .18; stroke: none; }
  & .price { stroke: var(--muted); stroke-width: 1.2; }
  & .buy { fill: var(--buy); stroke: var(--ground); stroke-width: .6; }
  & .sell { fill: var(--sell); stroke: var(--ground); stroke-width: .6; }
  & .symbols { border: 0; padding: 0; margin: .6rem 0; display: flex; flex-wrap: wrap;
    gap: .3rem .9rem; } & .symbols legend { color: var(--muted); padding: 0 .6rem 0 0; }
  & .symbols label { cursor: pointer; padding: .15rem 0; }
  & .heat td, & .heat th { border: 1px solid var(--ground); }
  & .heat td { min-width: 3.4rem; }
  & .heat td.gain { background: color-mix(in srgb, var(--gain) var(--s), var(--ground)); }
  & .heat td.loss { background: color-mix(in srgb, var(--loss) var(--s), var(--ground)); }
  & .heat td.none { color: var(--muted); text-align: center; border-color: var(--line); }
  & .heat td.best { outline: 3px solid var(--text); outline-offset: -3px; font-weight: 700; }
  & .heat td.sum { border-left: 3px solid var(--ground); font-weight: 650; }
  & .bar { display: inline-block; height: .7rem; background: var(--first); min-width: 1px;
    vertical-align: middle; print-color-adjust: exact; }
}
body.report { margin: 0; } body.report > * { margin: 0 auto; max-width: 76rem;
  padding: 1.6rem 1.2rem 0; } body.report > main { padding-top: 0; padding-bottom: 3rem; }
@media (max-width: 40rem) { .report { & .roomy { display: none; } & .chart { height: 13rem; }
  & .chart.low { height: 8.5rem; } } }
@media print { .report { color-scheme: light; font-size: 11px; & details:not([open]),
  & .symbols { display: none; } & figure, & tr, & .figures { break-inside: avoid; }
  & .heat td { print-color-adjust: exact; } & .wide { overflow: visible; } } }
"""


def document(title: str, head: Html, *sections: Child, style: str = "") -> Html:
    """The whole file; ``style``: what only this page needs."""
    return html(
        Html("<!doctype html>\n"),
        tag(
            "html",
            tag(
                "head",
                Html('<meta charset="utf-8">'),
                Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
                Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
                Html('<link rel="icon" href="data:,">'),
                tag("title", title),
                Html(f"<style>{STYLE}{style}</style>"),
            ),
            tag("body", tag("header", head), tag("main", *sections), class_="report"),
            lang="en",
        ),
        Html("\n"),
    )
