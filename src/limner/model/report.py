"""A training on one page: curves and settings in a single HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

WIDE, HIGH = 640, 220
_MARGIN = 48

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem;
        color: #1a1a1a; background: #fff }}
 table {{ border-collapse: collapse }} td {{ padding: .1rem 1rem .1rem 0 }}
 td:last-child {{ font-variant-numeric: tabular-nums }}
 svg {{ width: 100%; height: auto }} figcaption {{ color: #555 }} figure {{ margin: 1.5rem 0 }}
 @media (prefers-color-scheme: dark) {{ body {{ color: #eee; background: #161616 }}
        figcaption {{ color: #aaa }} }}
</style>
<h1>{title}</h1>
<p>{said}</p>
{figures}
<h2>Settings</h2>
<table>{rows}</table>
</html>
"""


def page(
    title: str,
    said: str,
    curves: Mapping[str, Sequence[float]],
    settings: Mapping[str, Any],
    *,
    best: int = -1,
) -> str:
    """The page. `curves`: name → a value a pass; `best`: the pass that was kept, marked in each."""
    figures = "".join(_figure(name, values, best) for name, values in curves.items() if values)
    rows = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in settings.items()
    )
    return _PAGE.format(
        title=html.escape(title), said=html.escape(said), figures=figures, rows=rows
    )


def _figure(name: str, values: Sequence[float], best: int) -> str:
    low, high = min(values), max(values)
    span = (high - low) or 1.0

    def at(place: int) -> tuple[float, float]:
        x = _MARGIN + (WIDE - 2 * _MARGIN) * place / max(len(values) - 1, 1)
        return x, HIGH - 30 - (HIGH - 50) * (values[place] - low) / span

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, range(len(values))))
    mark = ""
    if 0 <= best < len(values):
        x, y = at(best)
        mark = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#c2410c"/>'
            f'<text x="{x:.1f}" y="{HIGH - 8}" text-anchor="middle" font-size="12" '
            f'fill="currentColor">pass {best + 1}: {values[best]:.4g}</text>'
        )
    return (
        f'<figure><svg viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{html.escape(name)}">'
        f'<text x="4" y="24" font-size="12" fill="currentColor">{high:.4g}</text>'
        f'<text x="4" y="{HIGH - 28}" font-size="12" fill="currentColor">{low:.4g}</text>'
        f'<line x1="{_MARGIN}" y1="{HIGH - 30}" x2="{WIDE - _MARGIN}" y2="{HIGH - 30}" '
        f'stroke="currentColor" opacity=".3"/>'
        f'<polyline points="{line}" fill="none" stroke="#2563eb" stroke-width="2"/>{mark}</svg>'
        f"<figcaption>{html.escape(name)}, by pass</figcaption></figure>"
    )
