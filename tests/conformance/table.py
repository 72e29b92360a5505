"""README.md of this directory, from the table of rules: `python -m tests.conformance.table`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from tests.conformance.rules import DOORS, RULES, UNMET, Rule

README: Final = Path(__file__).with_name("README.md")

_HEAD: Final = """# Conformance

Which rules of low-latency HLS delivery are tested, where each stands, and through which doors: an
edge that is *push*ed to, an edge that can only *pull*, and the *origin* itself. Sections are of
RFC 8216bis (draft-pantos-hls-rfc8216bis-22) unless another source is named; the text is ours.
One real broadcast is watched through all doors: two video renditions, audio and subtitles, a full
window, a silence, a killed encoder, and the end.

This file is generated from the tests: `python -m tests.conformance.table`.

"""


def _doors(rule: Rule) -> str:
    return " | ".join("–" if door in rule.without else "✓" for door in DOORS)


def render() -> str:
    """The whole file."""
    for file in sorted(README.parent.glob("test_*.py")):
        import_module(f"tests.conformance.{file.stem}")
    lines = [f"| section | level | rule | {' | '.join(DOORS)} | test |"]
    lines.append("|---|---|---|" + ":-:|" * len(DOORS) + "---|")
    lines += [
        f"| {rule.section} | {rule.level} | {rule.text} | {_doors(rule)} | `{rule.test}` |"
        for rule in RULES.values()
    ]
    lines += ["", "## Where a door is left out", "", "| rule | door | reason |", "|---|---|---|"]
    for rule in RULES.values():
        lines += [f"| `{rule.test}` | {door} | {why} |" for door, why in rule.without.items()]
    lines += ["", "## Not met, or met elsewhere", "", "| section | rule | why |", "|---|---|---|"]
    lines += [f"| {section} | {text} | {why} |" for section, text, why in UNMET]
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    README.write_text(render())
