"""Plots as SVG text: bars with spread, and cumulative distributions. Pure functions.

Colours come from the page's custom properties (--s0 … --s9, --ink, --faint), so the plots follow
the page's light or dark scheme. Every mark carries a <title> that says its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 760
_ROW: Final = 26
_LABEL: Final = 190
_VALUE: Final = 150
_PLOT_HEIGHT: Final = 260
_MARGIN: Final = 44
_COLOURS: Final = 10
# Of a plot without a page: it is shown on white.
_STYLE: Final = (
    "svg{font:13px sans-serif;fill:#222;background:#fff}.small{font-size:11px}"
    ".own{font-weight:bold}.whisker,.mark{stroke:#222;fill:none}"
    ".line{fill:none;stroke-width:1.5}.grid{stroke:#ddd}"
)
_ALONE: Final = (*("#48a", "#c33", "#3a7", "#a6a", "#d80", "#088", "#666", "#963", "#36c", "#c6a"),)


@dataclass(frozen=True)
class Bar:
    """`note` stands behind the bar: its numbers in words."""

    label: str
    median: float
    low: float
    high: float
    note: str
    colour: int
    own: bool = False


def bars(rows: Sequence[Bar], *, mark: float | None, mark_label: str, caption: str) -> str:
    """Horizontal bars from zero; `mark` draws a vertical line (the floor)."""
    top = max((row.high for row in rows), default=0.0) or 1.0
    room = WIDTH - _LABEL - _VALUE
    height = _ROW * len(rows) + 22
    parts = [_bar(row, n, room / top) for n, row in enumerate(rows)]
    if mark is not None and mark > 0:
        x = _LABEL + mark * room / top
        parts.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 20}"/>'
            f'<text class="small" x="{x:.1f}" y="{height - 6}" text-anchor="middle">'
            f"{escape(mark_label)}</text>"
        )
    return _svg(height, caption, parts)


def _bar(row: Bar, number: int, scale: float) -> str:
    y, middle = number * _ROW, number * _ROW + _ROW / 2
    width, low, high = (max(0.5, value * scale) for value in (row.median, row.low, row.high))
    weight = ' class="own"' if row.own else ""
    return (
        f"<g><title>{escape(row.label)}: {escape(row.note)}</title>"
        f'<text{weight} x="{_LABEL - 8}" y="{middle + 4}" text-anchor="end">{escape(row.label)}'
        f'</text><rect x="{_LABEL}" y="{y + 5}" width="{width:.1f}" height="{_ROW - 10}" rx="2" '
        f'fill="var(--s{row.colour % _COLOURS})"/>'
        f'<path class="whisker" d="M{_LABEL + low:.1f} {middle}H{_LABEL + high:.1f}'
        f'M{_LABEL + low:.1f} {middle - 4}v8M{_LABEL + high:.1f} {middle - 4}v8"/>'
        f'<text x="{_LABEL + high + 8:.1f}" y="{middle + 4}">{escape(row.note)}</text></g>'
    )


def distribution(
    series: Mapping[str, Sequence[float]], colours: Mapping[str, int], caption: str
) -> str:
    """Percentiles 0..100 of each series as one line: value across (log scale), percentile up."""
    values = [v for line in series.values() for v in line if v > 0]
    low = math.floor(math.log10(max(min(values, default=1.0), 1e-2)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=10.0))))
    left, right, bottom = _MARGIN, WIDTH - _VALUE, _PLOT_HEIGHT - 28

    def across(value: float) -> float:
        place = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return left + place * (right - left)

    parts = [_grid(across, range(low, high + 1), bottom)]
    for n, (name, line) in enumerate(series.items()):
        points = [(across(v), bottom - p / 100 * (bottom - 8)) for p, v in enumerate(line)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        colour = f"var(--s{colours[name] % _COLOURS})"
        note = f"{name}: p50 {line[50]:.2f}, p99 {line[99]:.2f}, max {line[100]:.2f}"
        parts.append(
            f'<g><title>{escape(note)}</title><path class="line" d="{path}" stroke="{colour}"/>'
            f'<rect x="{right + 14}" y="{14 + n * 20}" width="12" height="12" fill="{colour}"/>'
            f'<text x="{right + 32}" y="{24 + n * 20}">{escape(name)}</text></g>'
        )
    return _svg(max(_PLOT_HEIGHT, 40 + 20 * len(series)), caption, parts)


def _grid(across: Callable[[float], float], decades: range, bottom: float) -> str:
    lines = []
    for decade in decades:
        x = across(10.0**decade)
        lines.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="8" y2="{bottom}"/><text '
            f'class="small" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{10.0**decade:g}'
            "</text>"
        )
    for percent in (0, 50, 100):
        y = bottom - percent / 100 * (bottom - 8)
        lines.append(
            f'<line class="grid" x1="{_MARGIN}" x2="{WIDTH - _VALUE}" y1="{y}" y2="{y}"/>'
            f'<text class="small" x="{_MARGIN - 6}" y="{y + 4}" text-anchor="end">{percent} %'
            "</text>"
        )
    return "".join(lines)


def over_time(series: Mapping[str, Sequence[tuple[float, float]]], caption: str) -> str:
    """Each series as one line from zero up: time across, value up, its last value beside it."""
    points = [point for line in series.values() for point in line]
    end = max((at for at, _ in points), default=0.0) or 1.0
    top = 1.05 * max((value for _, value in points), default=0.0) or 1.0
    left, right, bottom = _MARGIN, WIDTH - _VALUE, _PLOT_HEIGHT - 28
    parts = [f'<text class="small" x="{left}" y="12">{escape(caption)}</text>']
    for share in (0, 0.5, 1):
        y, x = bottom - share * (bottom - 20), left + share * (right - left)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/><text '
            f'class="small" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{share * top:.0f}'
            f'</text><text class="small" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
            f"{share * end:.0f}</text>"
        )
    for n, (name, line) in enumerate(series.items()):
        path = "M" + "L".join(
            f"{left + at / end * (right - left):.1f} {bottom - value / top * (bottom - 20):.1f}"
            for at, value in line
        )
        colour = f"var(--s{n % _COLOURS})"
        note = f"{name}: first {line[0][1]:.1f}, last {line[-1][1]:.1f}"
        parts.append(
            f'<g><title>{escape(note)}</title><path class="line" d="{path}" stroke="{colour}"/>'
            f'<rect x="{right + 14}" y="{14 + n * 20}" width="12" height="12" fill="{colour}"/>'
            f'<text x="{right + 32}" y="{24 + n * 20}">{escape(name)} {line[-1][1]:.0f}</text></g>'
        )
    return _svg(_PLOT_HEIGHT, caption, parts)


def stacked(plots: Sequence[str], caption: str) -> str:
    """Plots of one height below each other, as one."""
    parts = [
        each.replace("<svg", f'<svg y="{n * _PLOT_HEIGHT}" height="{_PLOT_HEIGHT}"', 1)
        for n, each in enumerate(plots)
    ]
    return _svg(_PLOT_HEIGHT * len(plots), caption, parts)


def alone(svg: str, colours: Mapping[int, str] | None = None) -> str:
    """The same as a file that needs no page around it. colours: others than the usual ones."""
    for number, usual in enumerate(_ALONE):
        svg = svg.replace(f"var(--s{number})", (colours or {}).get(number, usual))
    head, _, rest = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{_STYLE}</style>{rest}'


def _svg(height: float, caption: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(caption)}">'
        f"{''.join(parts)}</svg>"
    )
