"""The prediction as one self-contained HTML page: no script, no other file, no other host."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from ..plot import WIDTH, distribution
from .check import Compared
from .inputs import World, assumptions
from .sweep import COLUMNS, Point, Sweep, row

STYLE: Final = Path(__file__).parents[1] / "report.css"
_HEIGHT: Final = 220
_LEFT: Final = 60
_RIGHT: Final = 150
_COLOUR: Final = (3, 4, 6, 7, 8, 9)

# What is drawn of each sweep: (title, unit, lines by name)
_Value = Callable[[Point], float]
PLOTS: Final[Mapping[str, tuple[tuple[str, Mapping[str, _Value]], ...]]] = {
    "POPs": (
        ("hosts", {"hosts": lambda p: p[2].need.hosts}),
        (
            "lag behind the packager, ms",
            {
                "p50": lambda p: p[2].lag_ms["p50"],
                "p95": lambda p: p[2].lag_ms["p95"],
                "p99": lambda p: p[2].lag_ms["p99"],
            },
        ),
        ("origin out, Gb/s", {"pushed": lambda p: p[2].need.push_bps / 1e9}),
    ),
    "Parts": (
        ("busy cores", {"steady": lambda p: p[2].need.cores}),
        ("requests/s, millions", {"steady": lambda p: p[2].need.requests_s / 1e6}),
        ("behind the camera, s", {"p95 of the lag": lambda p: p[2].behind_s}),
    ),
    "Ramp": (
        ("busy cores at the peak", {"peak": lambda p: p[2].need.peak_cores}),
        ("requests/s at the peak, millions", {"peak": lambda p: p[2].need.peak_requests_s / 1e6}),
        (
            "requests to the origin while they join (+1)",
            {
                "coalesced": lambda p: p[2].pulls + 1,
                "one for each that waits": lambda p: p[2].pulls_alone + 1,
            },
        ),
    ),
}


def page(
    world: World,
    sweeps: Sequence[tuple[Sweep, Sequence[Point]]],
    base: Point,
    checks: Sequence[Compared],
) -> str:
    return "".join(_page(world, sweeps, base, checks))


def _page(
    world: World,
    sweeps: Sequence[tuple[Sweep, Sequence[Point]]],
    base: Point,
    checks: Sequence[Compared],
) -> Iterator[str]:
    viewers = f"{world.audience.viewers:,}"
    yield (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{viewers} viewers</title><style>{STYLE.read_text()}</style>"
        f"<h1>{viewers} viewers of one stream</h1>"
        '<p class="lead">A prediction from measured costs, not a measurement.</p>'
        "<h2>What it rests on</h2><dl>"
    )
    for what, words in assumptions(world):
        yield f"<dt>{escape(what)}</dt><dd>{escape(words)}</dd>"
    yield "</dl><h2>What it needs</h2><dl>"
    for (heading, _), value in zip(COLUMNS, row(base[2]), strict=True):
        yield f"<dt>{escape(heading)}</dt><dd>{escape(value)}</dd>"
    yield "</dl>"
    curve = {"all viewers": list(base[2].curve_ms)}
    title = "last byte of a part behind the packager, ms"
    yield _figure(distribution(curve, {"all viewers": 3}, title), f"{title}: share of viewers")
    for sweep, points in sweeps:
        yield f"<h2>{escape(sweep.name)}</h2><p>{escape(sweep.question)}</p>"
        for title, lines in PLOTS[sweep.name]:
            yield _figure(chart(sweep, points, lines, title), title)
        yield _table(sweep, points)
    if checks:
        yield "<h2>Held against the swarm</h2>" + _checks(checks)
    yield "</html>\n"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(sweep: Sweep, points: Sequence[Point]) -> str:
    heads = "".join(f"<th>{escape(text)}</th>" for text, _ in COLUMNS)
    rows = (
        f"<tr><td>{escape(sweep.label(value))}</td>"
        + "".join(f"<td>{escape(text)}</td>" for text in row(prediction))
        + "</tr>"
        for value, _, prediction in points
    )
    first = f"<th>{escape(sweep.name)}</th>"
    return f'<div class="scroll"><table><tr>{first}{heads}</tr>{"".join(rows)}</table></div>'


def _checks(checks: Sequence[Compared]) -> str:
    rows = "".join(
        f"<tr><td>{escape(c.what)}</td><td>{c.predicted:,.2f}</td><td>{c.measured:,.2f}</td>"
        f"<td>{escape(c.allowed())}</td><td>{'yes' if c.holds else 'no'}</td></tr>"
        for c in checks
    )
    heads = "".join(f"<th>{h}</th>" for h in ("", "predicted", "measured", "allowed", "holds"))
    return f'<div class="scroll"><table><tr>{heads}</tr>{rows}</table></div>'


def chart(sweep: Sweep, points: Sequence[Point], lines: Mapping[str, _Value], title: str) -> str:
    """Values of a sweep side by side, evenly spaced; up a logarithmic scale when it takes one."""
    values = [line(point) for line in lines.values() for point in points]
    low, high, up = _scale(values)
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(points) - 1)
    bottom = _HEIGHT - 28
    parts = []
    for mark in _marks(low, high):
        y = bottom - up(mark) * (bottom - 12)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="small" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{mark:,g}'
            "</text>"
        )
    for n, (value, _, _) in enumerate(points):
        parts.append(
            f'<text class="small" x="{_LEFT + n * step:.1f}" y="{bottom + 18}" '
            f'text-anchor="middle">{escape(sweep.label(value))}</text>'
        )
    for n, (name, line) in enumerate(lines.items()):
        dots = [(_LEFT + i * step, bottom - up(line(p)) * (bottom - 12), line(p))
                for i, p in enumerate(points)]  # fmt: skip
        parts.append(_line(name, dots, _COLOUR[n % len(_COLOUR)], 14 + 20 * n))
    return (
        f'<svg viewBox="0 0 {WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _line(name: str, dots: Sequence[tuple[float, float, float]], colour: int, legend: int) -> str:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in dots)
    fill = f"var(--s{colour})"
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}"><title>{escape(name)}: {v:,.4g}'
        "</title></circle>"
        for x, y, v in dots
    )
    x = WIDTH - _RIGHT + 14
    return (
        f'<path class="line" d="{path}" stroke="{fill}"/>{marks}'
        f'<rect x="{x}" y="{legend}" width="12" height="12" fill="{fill}"/>'
        f'<text x="{x + 18}" y="{legend + 10}">{escape(name)}</text>'
    )


def _scale(values: Sequence[float]) -> tuple[float, float, Callable[[float], float]]:
    """(least mark, greatest mark, value -> 0..1); from zero when all are of one size."""
    low, high = min(values), max(values)
    if low > 0 and high / low > 20:
        first, last = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        return first, last, lambda v: math.log(v / first) / math.log(last / first)
    step = 10.0 ** math.floor(math.log10(high or 1.0))
    top = step * math.ceil((high or 1.0) / step)
    return 0.0, top, lambda v: v / top


def _marks(low: float, high: float) -> list[float]:
    if low > 0:
        decades = range(round(math.log10(low)), round(math.log10(high)) + 1)
        return [10.0**decade for decade in decades]
    return [high * n / 4 for n in range(5)]
