"""`edgecache-origin vod …`: the recordings that viewers can watch.

Law: what there is comes from the catalogue, whether a server runs or not; a deletion has to reach
POPs and so is the running server's. Knows nothing but which part to call.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .command import AsJson, ConfigFile, ask_server, catalog_of, date, die, load, table

if TYPE_CHECKING:
    from .catalog import RecordingRow

vod = typer.Typer(no_args_is_help=True, help="Recordings, as viewers get them.")

Base = Annotated[str, typer.Option(help="of a POP, http://pop.example")]
Epoch = Annotated[str, typer.Argument(help="see `vod list`; default: the newest")]


@vod.command("list")
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


@vod.command("show")
def show_recording(
    stream: str,
    epoch: Epoch = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what a recording of STREAM is made of."""
    from edgecache.errors import EdgeError

    from .archive.keeper import place_of
    from .archive.objects import Objects
    from .archive.recorder import index_key
    from .archive.recording import Recording

    row = _row(config, stream, epoch)
    try:
        objects = Objects(place_of(load(config).value))
        data = objects.read(index_key(row.stream, row.epoch, row.revision))
        recording = Recording.from_json(data)
    except (EdgeError, ValueError) as error:
        die(1, [str(error)])
    tracks = [
        {
            "track": name,
            "codecs": next(iter(sheet.inits.values())).rendition.codecs,
            "segments": len(sheet.segments),
            "bytes": sheet.size_bytes,
            "gaps": recording.lost.get(name, 0),
        }
        for name, sheet in recording.whole.items()
    ]
    if as_json:
        print(json.dumps({**asdict(row), "tracks": tracks}))
        return
    print(f"{row.stream} {row.epoch}: revision {row.revision}, began {date(row.began_s)}")
    table([tuple(tracks[0]), *(tuple(map(str, track.values())) for track in tracks)])


@vod.command("url")
def url_of_recording(
    stream: str,
    epoch: Epoch = "",
    base: Base = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the addresses that a recording of STREAM keeps, whatever is broadcast next."""
    from .names import vod_path

    row = _row(config, stream, epoch)
    paths = {"hls": "master.m3u8", "dash": "manifest.mpd"}
    urls = {
        kind: f"{base.rstrip('/')}{vod_path(row.stream, row.epoch)}{name}"
        for kind, name in paths.items()
    }
    urls["watch"] = f"{base.rstrip('/')}/watch/{row.stream}?recording={row.epoch}"
    urls["mp4"] = f"{base.rstrip('/')}/download/{row.stream}/{row.epoch}.mp4"
    print(json.dumps(urls) if as_json else "\n".join(urls.values()))


@vod.command("delete")
def delete_recording(
    stream: str, epoch: str, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Delete a recording everywhere: the store, the running server, its POPs."""
    settings = load(config).value
    try:
        gone = ask_server(settings, "DELETE", f"/api/recordings/{stream}/{epoch}")
    except OSError as error:
        found = f"admin.listen: found {settings.admin.listen}, where no server answers"
        die(1, [f"{found}: {error}"])
    print(json.dumps(gone) if as_json else f"{stream} {epoch}: {gone['objects']} objects deleted")


def _row(config: ConfigFile, stream: str, epoch: str) -> RecordingRow:
    with catalog_of(config) as catalog:
        rows = [row for row in catalog.recordings() if row.stream == stream]
    found = [row for row in rows if epoch in ("", row.epoch)]
    if not found:
        die(1, [f"{stream} {epoch}".strip() + ": found no such recording"])
    return found[-1]
