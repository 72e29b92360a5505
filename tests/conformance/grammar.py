"""What each line of a playlist may look like (RFC 8216bis 4.1 to 4.4): one table, one checker.

Law: strict. A tag that is not in the table, an attribute that is not of its tag, a value of another
type, a required one that is missing, a name twice: each is a problem, said with its line number.
Clients must ignore what they do not know (6.3.1); a server has no reason to say it. Knows single
lines and which kind of playlist they may stand in, not what they mean together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

# 4.2: the types of attribute values.
INTEGER: Final = r"[0-9]{1,20}"
HEX: Final = r"0[xX][0-9A-F]+"
FLOAT: Final = r"[0-9]+(?:\.[0-9]+)?"
SIGNED: Final = rf"-?{FLOAT}"
QUOTED: Final = r'"[^"\r\n]*"'
RESOLUTION: Final = r"[1-9][0-9]*x[1-9][0-9]*"
YES: Final = "YES"
YES_NO: Final = "YES|NO"
RANGE: Final = r'"[0-9]+(?:@[0-9]+)?"'
DATE: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,}(?:Z|[+-]\d\d:?\d\d)"
QUOTED_DATE: Final = rf'"{DATE}"'

_NAME: Final = r"[A-Z0-9-]+"
_PAIR: Final = re.compile(rf"({_NAME})=({QUOTED}|[^\",\s][^,\s]*)(?:,|$)")

Where = Literal["any", "media", "multivariant"]


@dataclass(frozen=True, slots=True)
class Form:
    """How one tag is written. value: pattern of what follows the colon, None for none, unless
    there are attributes. required: attributes that must be there. once: in a playlist."""

    where: Where
    value: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    once: bool = False


def _list(where: Where, required: str, *, once: bool = False, **attributes: str) -> Form:
    named = {name.replace("_", "-"): pattern for name, pattern in attributes.items()}
    return Form(where, None, named, frozenset(required.split()), once)


FORMS: Final[Mapping[str, Form]] = {
    "EXTM3U": Form("any", once=True),
    "EXT-X-VERSION": Form("any", INTEGER, once=True),
    "EXT-X-INDEPENDENT-SEGMENTS": Form("any", once=True),
    "EXT-X-START": _list("any", "TIME-OFFSET", once=True, TIME_OFFSET=SIGNED, PRECISE=YES_NO),
    "EXT-X-DEFINE": _list("any", "", NAME=QUOTED, VALUE=QUOTED, IMPORT=QUOTED, QUERYPARAM=QUOTED),
    # 4.4.3: of a media playlist, each once
    "EXT-X-TARGETDURATION": Form("media", r"[1-9][0-9]*", once=True),
    "EXT-X-MEDIA-SEQUENCE": Form("media", INTEGER, once=True),
    "EXT-X-DISCONTINUITY-SEQUENCE": Form("media", INTEGER, once=True),
    "EXT-X-ENDLIST": Form("media", once=True),
    "EXT-X-PLAYLIST-TYPE": Form("media", "EVENT|VOD", once=True),
    "EXT-X-I-FRAMES-ONLY": Form("media", once=True),
    "EXT-X-PART-INF": _list("media", "PART-TARGET", once=True, PART_TARGET=FLOAT),
    "EXT-X-SERVER-CONTROL": _list(
        "media",
        "",
        once=True,
        CAN_SKIP_UNTIL=FLOAT,
        CAN_SKIP_DATERANGES=YES,
        HOLD_BACK=FLOAT,
        PART_HOLD_BACK=FLOAT,
        CAN_BLOCK_RELOAD=YES,
    ),
    # 4.4.4: of a segment
    "EXTINF": Form("media", rf"{FLOAT},.*"),
    "EXT-X-BYTERANGE": Form("media", r"[0-9]+(?:@[0-9]+)?"),
    "EXT-X-DISCONTINUITY": Form("media"),
    "EXT-X-KEY": _list(
        "media",
        "METHOD",
        METHOD="NONE|AES-128|SAMPLE-AES|SAMPLE-AES-CTR|AES-256-GCM",
        URI=QUOTED,
        IV=HEX,
        KEYFORMAT=QUOTED,
        KEYFORMATVERSIONS=QUOTED,
    ),
    "EXT-X-MAP": _list("media", "URI", URI=QUOTED, BYTERANGE=r'"[0-9]+@[0-9]+"'),
    "EXT-X-PROGRAM-DATE-TIME": Form("media", DATE),
    "EXT-X-GAP": Form("media"),
    "EXT-X-BITRATE": Form("media", INTEGER),
    "EXT-X-PART": _list(
        "media",
        "URI DURATION",
        URI=QUOTED,
        DURATION=FLOAT,
        INDEPENDENT=YES,
        BYTERANGE=RANGE,
        GAP=YES,
    ),
    # 4.4.5: metadata
    "EXT-X-DATERANGE": _list(
        "media",
        "ID",
        ID=QUOTED,
        CLASS=QUOTED,
        START_DATE=QUOTED_DATE,
        CUE=QUOTED,
        END_DATE=QUOTED_DATE,
        DURATION=FLOAT,
        PLANNED_DURATION=FLOAT,
        SCTE35_CMD=HEX,
        SCTE35_OUT=HEX,
        SCTE35_IN=HEX,
        END_ON_NEXT=YES,
    ),
    "EXT-X-SKIP": _list(
        "media",
        "SKIPPED-SEGMENTS",
        once=True,
        SKIPPED_SEGMENTS=INTEGER,
        RECENTLY_REMOVED_DATERANGES=QUOTED,
    ),
    "EXT-X-PRELOAD-HINT": _list(
        "media",
        "TYPE URI",
        TYPE="PART|MAP",
        URI=QUOTED,
        BYTERANGE_START=INTEGER,
        BYTERANGE_LENGTH=INTEGER,
    ),
    "EXT-X-RENDITION-REPORT": _list(
        "media", "URI LAST-MSN", URI=QUOTED, LAST_MSN=INTEGER, LAST_PART=INTEGER
    ),
    # 4.4.6: of a multivariant playlist
    "EXT-X-MEDIA": _list(
        "multivariant",
        "TYPE GROUP-ID NAME",
        TYPE="AUDIO|VIDEO|SUBTITLES|CLOSED-CAPTIONS",
        URI=QUOTED,
        GROUP_ID=QUOTED,
        LANGUAGE=QUOTED,
        ASSOC_LANGUAGE=QUOTED,
        NAME=QUOTED,
        STABLE_RENDITION_ID=QUOTED,
        DEFAULT=YES_NO,
        AUTOSELECT=YES_NO,
        FORCED=YES_NO,
        INSTREAM_ID=QUOTED,
        BIT_DEPTH=INTEGER,
        SAMPLE_RATE=INTEGER,
        CHARACTERISTICS=QUOTED,
        CHANNELS=QUOTED,
    ),
    "EXT-X-STREAM-INF": _list(
        "multivariant",
        "BANDWIDTH",
        BANDWIDTH=INTEGER,
        AVERAGE_BANDWIDTH=INTEGER,
        SCORE=FLOAT,
        CODECS=QUOTED,
        SUPPLEMENTAL_CODECS=QUOTED,
        RESOLUTION=RESOLUTION,
        FRAME_RATE=FLOAT,
        HDCP_LEVEL="TYPE-0|TYPE-1|NONE",
        ALLOWED_CPC=QUOTED,
        VIDEO_RANGE="SDR|HLG|PQ",
        REQ_VIDEO_LAYOUT=QUOTED,
        STABLE_VARIANT_ID=QUOTED,
        AUDIO=QUOTED,
        VIDEO=QUOTED,
        SUBTITLES=QUOTED,
        CLOSED_CAPTIONS=rf"NONE|{QUOTED}",
        PATHWAY_ID=QUOTED,
    ),
    "EXT-X-I-FRAME-STREAM-INF": _list(
        "multivariant",
        "BANDWIDTH URI",
        BANDWIDTH=INTEGER,
        AVERAGE_BANDWIDTH=INTEGER,
        SCORE=FLOAT,
        CODECS=QUOTED,
        SUPPLEMENTAL_CODECS=QUOTED,
        RESOLUTION=RESOLUTION,
        HDCP_LEVEL="TYPE-0|TYPE-1|NONE",
        ALLOWED_CPC=QUOTED,
        VIDEO_RANGE="SDR|HLG|PQ",
        REQ_VIDEO_LAYOUT=QUOTED,
        STABLE_VARIANT_ID=QUOTED,
        VIDEO=QUOTED,
        PATHWAY_ID=QUOTED,
        URI=QUOTED,
    ),
    "EXT-X-SESSION-DATA": _list(
        "multivariant",
        "DATA-ID",
        DATA_ID=QUOTED,
        VALUE=QUOTED,
        URI=QUOTED,
        FORMAT="JSON|RAW",
        LANGUAGE=QUOTED,
    ),
    "EXT-X-SESSION-KEY": _list(
        "multivariant",
        "METHOD URI",
        METHOD="AES-128|SAMPLE-AES|SAMPLE-AES-CTR|AES-256-GCM",
        URI=QUOTED,
        IV=HEX,
        KEYFORMAT=QUOTED,
        KEYFORMATVERSIONS=QUOTED,
    ),
    "EXT-X-CONTENT-STEERING": _list(
        "multivariant", "SERVER-URI", once=True, SERVER_URI=QUOTED, PATHWAY_ID=QUOTED
    ),
}


def attributes(text: str) -> list[tuple[str, str]]:
    """An attribute list as (name, value as written). Raises ValueError when it is none (4.2)."""
    found = []
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            raise ValueError(f"not an attribute list from {text[at : at + 40]!r} on")
        found.append((match[1], match[2]))
        at = match.end()
    if not found or text.endswith(","):
        raise ValueError(f"not an attribute list: {text[:40]!r}")
    return found


def _attribute_problems(form: Form, value: str) -> Iterator[str]:
    try:
        pairs = attributes(value)
    except ValueError as error:
        yield str(error)
        return
    names = Counter(name for name, _ in pairs)
    yield from (f"{name} stands there {n} times" for name, n in names.items() if n > 1)
    yield from (f"{name} is missing" for name in sorted(form.required - names.keys()))
    for name, text in pairs:
        pattern = form.attributes.get(name)
        if name.startswith("X-") and "ID" in form.attributes:
            continue  # a date range's own attributes (4.4.5.1)
        if pattern is None:
            yield f"{name} is no attribute of it"
        elif not re.fullmatch(pattern, text):
            yield f"{name}={text} is not of its type"


def _tag_problems(line: str) -> Iterator[str]:
    name, colon, value = line[1:].partition(":")
    form = FORMS.get(name)
    if form is None:
        yield "no tag of the specification"
    elif form.attributes:
        yield from _attribute_problems(form, value)
    elif form.value is None:
        if colon:
            yield "takes no value"
    elif not re.fullmatch(form.value, value):
        yield "its value is not of its type"


def problems(text: str) -> list[str]:
    """Everything that is wrong with a playlist, line by line; empty when it is well formed."""
    lines = text.split("\n")
    found = [] if lines[-1] == "" else ["the last line is not ended"]
    if lines[0] != "#EXTM3U":
        found.append("line 1: not #EXTM3U (4.4.1.1)")
    tags: Counter[str] = Counter()
    for number, line in enumerate(lines[:-1], start=1):
        if not line.startswith("#EXT"):
            if line != line.strip() or any(ord(c) < 32 or ord(c) == 127 for c in line):
                found.append(f"line {number}: {line!r}: spaces or control characters (4.1)")
            continue
        tags[line[1:].partition(":")[0]] += 1
        found += [f"line {number}: {line}: {problem}" for problem in _tag_problems(line)]
    forms = {name: FORMS[name] for name in tags if name in FORMS}
    found += [
        f"{name}: {tags[name]} times" for name, f in forms.items() if f.once and tags[name] > 1
    ]
    kinds = {form.where for form in forms.values()} - {"any"}
    if len(kinds) > 1:
        found.append("tags of a media and of a multivariant playlist (4.4.6)")
    if "media" in kinds and "EXT-X-TARGETDURATION" not in tags:
        found.append("EXT-X-TARGETDURATION is missing (4.4.3.1)")
    return found
