"""`edgecache-origin archive …`: what there is, encoding it again, deleting it.

Law: what there is comes from the catalogue, whether a server runs or not; a deletion has to reach
POPs and so is the running server's. Encoding may be done here, beside a server or without one: the
chunks that it finishes are the server's, too. Knows nothing but which part to call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .command import AsJson, ConfigFile, catalog_of, date, die, load, table

if TYPE_CHECKING:
    from .archive.recording import Recording
    from .catalog import RecordingRow
    from .config import Config

_TIMEOUT_S: Final = 60.0

archive = typer.Typer(no_args_is_help=True, help="Recordings in the permanent store.")


@archive.command("list")
def list_recordings(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List recordings."""
    with catalog_of(config) as catalog:
        rows = catalog.recordings()
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    cells = [
        (
            row.stream,
            row.epoch,
            date(row.began_s),
            f"{row.duration_ms / 1000:.0f} s",
            f"{row.size_bytes / 1e6:.1f} MB",
            str(row.lost),
        )
        for row in rows
    ]
    table([("stream", "epoch", "began", "length", "size", "gaps"), *cells])


@archive.command("delete")
def delete_recording(
    stream: str, epoch: str, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Delete a recording everywhere: the store, the running server, its POPs."""
    settings = load(config).value
    try:
        gone = _ask(settings, "DELETE", f"/api/recordings/{stream}/{epoch}")
    except OSError as error:
        found = f"admin.listen: found {settings.admin.listen}, where no server answers"
        die(1, [f"{found}: {error}"])
    print(json.dumps(gone) if as_json else f"{stream} {epoch}: {gone['objects']} objects deleted")


@archive.command("encode")
def encode_recording(
    stream: str,
    config: ConfigFile = None,
    workers: Annotated[int, typer.Option(help="chunks at a time; 0: archive.workers")] = 0,
    as_json: AsJson = False,
) -> None:
    """Encode the newest recording of STREAM into archive.ladder. May be broken off and started
    again: chunks that are finished stay."""
    from edgecache.errors import EdgeError

    settings = load(config).value
    with catalog_of(config) as catalog:
        rows = [row for row in catalog.recordings() if row.stream == stream]
        if not rows:
            die(1, [f"{stream}: found no recording"])
        problem, made = "", None
        try:
            made = asyncio.run(_encode(settings, rows[-1], workers, quiet=as_json))
        except* (EdgeError, OSError, ValueError) as errors:
            problem = str(errors.exceptions[0])
        if problem or made is None:
            nothing = "archive.ladder: found no rung that is small enough and not there already"
            die(1, [problem or nothing])
        from .archive.keeper import row_of

        catalog.set_recording(row_of(made))
    with contextlib.suppress(OSError):  # who is not running will see it at its start
        _ask(settings, "POST", f"/api/recordings/{stream}")
    tracks = sorted(made.whole)
    if as_json:
        print(json.dumps({"epoch": made.epoch, "revision": made.revision, "tracks": tracks}))
    else:
        print(f"{stream} {made.epoch}: revision {made.revision}, {', '.join(tracks)}")


async def _encode(
    config: Config, row: RecordingRow, workers: int, *, quiet: bool
) -> Recording | None:
    """None when there is nothing to encode. Raises EdgeError, or a group of those."""
    from .archive.keeper import place_of
    from .archive.objects import Objects
    from .archive.recorder import index_key
    from .archive.recording import Recording
    from .archive.reencode import Reencode
    from .ffmpeg import find

    objects = Objects(place_of(config))
    key = index_key(row.stream, row.epoch, row.revision)
    recording = Recording.from_json(await asyncio.to_thread(objects.read, key))
    job = Reencode(
        recording,
        config.archive.ladder,
        objects=objects,
        ffmpeg=find(config.encoder.ffmpeg),
        chunk_ms=config.archive.chunk,
    )
    if not job.wanted:
        return None
    with _bar(quiet=quiet) as progress:
        made = await job.run(workers=workers or config.archive.workers, progress=progress)
    key = index_key(made.stream, made.epoch, made.revision)
    await asyncio.to_thread(objects.create, key, made.to_json())
    return made


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """with _bar() as progress: progress(done, total)."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("encoding", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _ask(config: Config, method: str, path: str) -> dict[str, object]:
    """What the running server answers at its door for operators. Raises OSError when none does."""
    request = urllib.request.Request(f"http://{config.admin.listen}{path}", method=method)
    if method == "POST":
        request.add_header("Content-Type", "application/json")
        request.data = b"{}"
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            found: dict[str, object] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        die(1, [error.read().decode("utf-8", "replace").strip()])
