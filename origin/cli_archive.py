"""`edgecache-origin archive …`: encoding recordings again, and looking whether they are whole.

Laws: what there is comes from the catalogue, whether a server runs or not. Encoding is done here,
beside servers or without them: the chunks that one finishes are everybody's. Knows nothing but
which part to call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .command import AsJson, ConfigFile, ask_server, catalog_of, die, load, shared_of

if TYPE_CHECKING:
    from .archive.objects import Objects
    from .archive.recording import Recording
    from .catalog import RecordingRow
    from .catalogs import Shared
    from .config import Config

_TURN_TRIES: Final = 20
_TURN_S: Final = 0.5

archive = typer.Typer(no_args_is_help=True, help="The permanent store.")


@archive.command("verify")
def verify_recordings(
    stream: Annotated[str, typer.Argument(help="default: all")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Read every stored object of the recordings (of STREAM) and compare it with what was stored
    once. Exit code 1: something is missing or damaged."""
    from edgecache.errors import EdgeError

    from .archive.keeper import place_of
    from .archive.objects import Objects
    from .archive.verify import verify

    settings = load(config).value
    with catalog_of(config) as catalog:
        rows = [row for row in catalog.recordings() if stream in ("", row.stream)]
    if stream and not rows:
        die(1, [f"{stream}: found no recording"])
    found = []
    try:
        objects = Objects(place_of(settings))
        for row in rows:
            checked = list(verify(objects, _read(objects, row)))
            faults = [asdict(each) for each in checked if each.fault]
            size = sum(each.size for each in checked)
            told = {"stream": row.stream, "epoch": row.epoch, "revision": row.revision}
            found.append({**told, "objects": len(checked), "bytes": size, "faults": faults})
    except (EdgeError, ValueError) as error:
        die(1, [str(error)])
    _tell_checked(found, as_json=as_json)


def _tell_checked(found: list[dict[str, object]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
    for each in found if not as_json else ():
        print(f"{each['stream']} {each['epoch']}: {each['objects']} objects, {each['bytes']} bytes")
    faults = [fault for each in found for fault in each["faults"]]  # type: ignore[attr-defined]
    if faults:
        die(1, [f"{fault['key']}: {fault['fault']}" for fault in faults])


def _read(objects: Objects, row: RecordingRow) -> Recording:
    """Raises ObjectError, MissingError, ValueError."""
    from .archive.recorder import index_key
    from .archive.recording import Recording

    return Recording.from_json(objects.read(index_key(row.stream, row.epoch, row.revision)))


@archive.command("encode")
def encode_recording(
    stream: str,
    config: ConfigFile = None,
    workers: Annotated[int, typer.Option(help="chunks at a time; 0: archive.workers")] = 0,
    as_json: AsJson = False,
) -> None:
    """Encode the newest recording of STREAM into archive.ladder, here and wherever workers are. May
    be broken off and started again: chunks that are finished stay."""
    from edgecache.errors import EdgeError

    settings = load(config).value
    shared = shared_of(settings)
    with shared.catalog as catalog:
        rows = [row for row in catalog.recordings() if row.stream == stream]
        if not rows:
            die(1, [f"{stream}: found no recording"])
        problem, made = "", None
        try:
            made = asyncio.run(_encode(settings, shared, rows[-1], workers, quiet=as_json))
        except (EdgeError, OSError, ValueError) as error:
            problem = str(error)
        if problem or made is None:
            nothing = "archive.ladder: found no rung that is small enough and not there already"
            die(1, [problem or nothing])
    with contextlib.suppress(OSError):  # who is not running will see it at its start
        ask_server(settings, "POST", f"/api/recordings/{stream}")
    tracks = sorted(made.whole)
    if as_json:
        print(json.dumps({"epoch": made.epoch, "revision": made.revision, "tracks": tracks}))
    else:
        print(f"{stream} {made.epoch}: revision {made.revision}, {', '.join(tracks)}")


async def _encode(
    config: Config, shared: Shared, row: RecordingRow, workers: int, *, quiet: bool
) -> Recording | None:
    """None when there is nothing to encode. Raises EdgeError, OSError, ValueError."""
    from .archive.chunk import EncodeError
    from .archive.turns import turn

    for _ in range(_TURN_TRIES):
        async with turn(shared.catalog, row) as ours:
            if ours:
                return await _encode_now(config, shared, row, workers, quiet=quiet)
        await asyncio.sleep(_TURN_S)
    raise EncodeError(f"{row.stream} {row.epoch}: somebody else works on it")


async def _encode_now(
    config: Config, shared: Shared, row: RecordingRow, workers: int, *, quiet: bool
) -> Recording | None:
    from .archive.chunk import Encoding
    from .archive.keeper import place_of, row_of
    from .archive.objects import Objects
    from .archive.recorder import index_key
    from .archive.reencode import Reencode
    from .archive.worker import Worker
    from .ffmpeg import find

    objects = Objects(place_of(config))
    now = shared.catalog.recording(row.stream, row.epoch) or row
    recording = await asyncio.to_thread(_read, objects, now)
    encoding = Encoding(recording, config.archive.ladder, chunk_ms=config.archive.chunk)
    if not encoding.wanted:
        return None
    worker = Worker(shared.jobs, objects, find(config.encoder.ffmpeg), counters=Counter())
    room = workers or config.archive.workers
    tasks = [asyncio.create_task(worker.run()) for _ in range(room)]
    job = Reencode(encoding, objects, shared.jobs)
    try:
        with _bar(quiet=quiet) as progress:
            made = await job.run(progress)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    key = index_key(made.stream, made.epoch, made.revision)
    await asyncio.to_thread(objects.create, key, made.to_json())
    await asyncio.to_thread(shared.catalog.set_recording, row_of(made))
    await asyncio.to_thread(job.clean)
    return made


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """with _bar() as progress: progress(done, total)."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task("encoding", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
