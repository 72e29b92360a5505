"""The commands of `edgecache`: what a person types, and exit codes.

Law: `--help` imports nothing slow; every failure is one clear line on stderr. Exit codes: 0 fine, 1
failed, 2 wrong usage, 78 wrong configuration (EX_CONFIG). Knows nothing but which part to call.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from . import __version__

if TYPE_CHECKING:
    from http.client import HTTPConnection

    from .config import EdgeConfig
    from .control.manager import Given
    from .settings import Loaded

_EX_CONFIG: Final = 78
_ADMIN: Final = "http://127.0.0.1:8081"
_TIMEOUT_S: Final = 5.0

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich help costs 130 ms of 150
    help="A live-video edge cache.",
)

ConfigFile = Annotated[Path | None, typer.Option("-c", "--config", help="TOML file")]
Override = Annotated[list[str] | None, typer.Option("-o", "--option", help="key=value")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="a port; 0: a free one")]
AdminUrl = Annotated[str, typer.Option("--admin", help="admin door: http://… or unix:/path")]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="what the door asks for")]


def _die(code: int, lines: Sequence[str]) -> NoReturn:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    raise typer.Exit(code)


def _load(config: Path | None, overrides: Sequence[str]) -> Loaded[EdgeConfig]:
    from . import tls
    from .config import load_config, load_secrets, load_token
    from .errors import ConfigError

    try:
        loaded = load_config(config, overrides)
        load_secrets(loaded.value)
        load_token(loaded.value)
        if ca_file := loaded.value.origin.ca_file:
            tls.client(ca_file)
    except ConfigError as error:
        _die(_EX_CONFIG, error.problems)
    return loaded


@app.command()
def serve(
    listen: Annotated[str | None, typer.Option(help="viewers' address, HOST:PORT")] = None,
    origin: Annotated[list[str] | None, typer.Option(help="origin URL; repeat for more")] = None,
    kind: Annotated[
        str | None, typer.Option(help="what the origin serves: live, vod or any site: http")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="native threads; 0: one per core")] = None,
    config: ConfigFile = None,
    option: Override = None,
    check: Annotated[bool, typer.Option("-t", "--check", help="check settings, then exit")] = False,
    effective: Annotated[
        bool, typer.Option("-T", "--effective", help="print settings and their sources, then exit")
    ] = False,
    supervised: Annotated[
        bool, typer.Option("--supervise", help="a parent keeps the sockets if serving is killed")
    ] = False,
) -> None:
    """Run a POP: serve viewers, fill from the origin, take pushes and publishers."""
    given = _stand_by()
    overrides = list(option or ())
    overrides += [f"http.listen={listen}"] if listen is not None else []
    overrides += [f"origin.urls={','.join(origin)}"] if origin else []
    overrides += [f"origin.kind={kind}"] if kind is not None else []
    overrides += [f"http.workers={workers}"] if workers is not None else []
    loaded = _load(config, overrides)
    if effective:
        _print_effective(loaded)
    elif check:
        print(f"{config or 'defaults'}: fine")
    elif supervised:
        from .supervise import supervise

        raise typer.Exit(supervise())
    else:
        _serve(loaded, config, overrides, given)


def _stand_by() -> Given:
    """The sockets that we were given; who is to serve only when another has died waits for that
    here, with everything imported."""
    import os

    from .control import manager

    if os.environ.get(manager.STANDBY):
        import uvloop  # noqa: F401 - for later, as the rest

        from . import _core, server  # noqa: F401
    try:
        return manager.inherited()
    except EOFError:
        raise typer.Exit(0) from None


def _serve(
    loaded: Loaded[EdgeConfig], config: Path | None, overrides: Sequence[str], given: Given
) -> None:
    import faulthandler

    from .config import load_config
    from .errors import ConfigError, EdgeError
    from .server import serve as run

    faulthandler.enable()  # a crash says where each thread was, async-signal-safely
    try:
        run(loaded, lambda: load_config(config, overrides), given)
    except ConfigError as error:
        _die(_EX_CONFIG, error.problems)
    except EdgeError as error:
        _die(1, [str(error)])


def _print_effective(loaded: Loaded[EdgeConfig]) -> None:
    rows = loaded.rows()
    key_width = max(len(key) for key, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    for key, value, source in rows:
        print(f"{key:<{key_width}}  {value:<{value_width}}  {source}")


@app.command()
def keep(
    path: Annotated[Path, typer.Argument(help="its socket: EDGECACHE_KEEPER of the POP")],
) -> None:
    """Keep what a POP has in its cache, for its next process when it is killed or restarted."""
    from .vault import keep as run

    try:
        run(str(path))
    except OSError as error:
        _die(1, [f"{path}: cannot listen there: {error.strerror}"])


@app.command()
def demo(
    as_json: Annotated[bool, typer.Option("--json", help="one line once all serves")] = False,
    publish: Annotated[bool, typer.Option(help="publish the test pattern")] = True,
    duration: Annotated[str, typer.Option(help="end after this, such as 60s; 0: Ctrl-C")] = "0",
    origin: Port = 0,
    admin_origin: Port = 0,
    srt_origin: Port = 0,
    http_a: Port = 0,
    rtmp_a: Port = 0,
    srt_a: Port = 0,
    push_a: Port = 0,
    admin_a: Port = 0,
    http_b: Port = 0,
    rtmp_b: Port = 0,
    srt_b: Port = 0,
    push_b: Port = 0,
    admin_b: Port = 0,
) -> None:
    """Run a whole broadcast on this machine: origin, two POPs, a test pattern."""
    from .demo import run
    from .demo_plan import Ports
    from .errors import UnitError
    from .units import parse_duration_ms

    ports = Ports(
        origin=origin, admin_origin=admin_origin, srt_origin=srt_origin,
        http_a=http_a, rtmp_a=rtmp_a, srt_a=srt_a, push_a=push_a, admin_a=admin_a,
        http_b=http_b, rtmp_b=rtmp_b, srt_b=srt_b, push_b=push_b, admin_b=admin_b,
    )  # fmt: skip
    try:
        duration_ms = parse_duration_ms(duration)
    except UnitError as error:
        _die(2, [f"--duration: found {duration}, allowed {error}"])
    raise typer.Exit(run(ports=ports, publish=publish, duration_ms=duration_ms, as_json=as_json))


@app.command()
def explain(url: str, admin: AdminUrl = _ADMIN, token_file: TokenFile = None) -> None:
    """Say where the answer to URL comes from now, and why."""
    from urllib.parse import quote

    print(_ask(admin, token_file, "GET", f"/explain?url={quote(url, safe='')}"), end="")


@app.command()
def purge(
    key: Annotated[str, typer.Argument(help="path; with a / at its end: everything below it")],
    admin: AdminUrl = _ADMIN,
    token_file: TokenFile = None,
) -> None:
    """Forget KEY at this POP. Returns once no new request can get the old bytes."""
    from urllib.parse import quote

    kind = "prefix" if key.endswith("/") else "key"
    print(_ask(admin, token_file, "POST", f"/purge?{kind}={quote(key, safe='')}"), end="")


@app.command()
def version() -> None:
    """Print the version, and how the core was built."""
    try:
        from ._core import BUILD
    except ImportError:
        core = "core not built"
    else:
        core = ", ".join(f"{name} {value}" for name, value in sorted(BUILD.items()))
    print(f"edgecache {__version__} ({core})")


def _ask(admin: str, token_file: Path | None, method: str, target: str) -> str:
    import http.client

    fields = {"Content-Length": "0", "Host": "localhost"}
    if token_file is not None:
        try:
            fields["Authorization"] = f"Bearer {token_file.read_text().strip()}"
        except OSError as error:
            _die(1, [f"--token-file: found {token_file}: {error.strerror}"])
    connection = _connection(admin)
    try:
        connection.request(method, target, headers=fields)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        _die(1, [f"--admin: found {admin}, which does not answer: {error}"])
    finally:
        connection.close()
    if answer.status != 200:
        _die(1, [text.strip()])
    return text


def _connection(admin: str) -> HTTPConnection:
    """To an http:// URL or a Unix socket."""
    import http.client
    import socket
    from urllib.parse import urlsplit

    class Local(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(admin.removeprefix("unix:"))

    if admin.startswith("unix:"):
        return Local("localhost", timeout=_TIMEOUT_S)
    return http.client.HTTPConnection(urlsplit(admin).netloc, timeout=_TIMEOUT_S)


def main() -> None:
    """Entry point."""
    app()
