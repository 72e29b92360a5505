"""A live broadcast on this machine: one origin, two POPs, a test pattern published through a POP.

Laws: everything listens on loopback and is a child process of this one; ports are free ones unless
given; settings, secrets and logs live in a temporary directory that goes when this ends. However it
ends, the children end first: publisher, origin, POPs. Every wait has a deadline. Knows the other
programs by their command lines only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console

from . import children
from .children import Child
from .demo_plan import HOST, STREAM, Demo, DemoError, Ports, free_ports, write_settings

_READY_S: Final = 30.0
_PLAYING_S: Final = 30.0
_COMMAND_S: Final = 15.0
_REQUEST_S: Final = 2.0
_POLL_S: Final = 0.1
_GRACE_S: Final = 5.0
_BODY_BYTES: Final = 64 << 10

_FFMPEG: Final = (
    "from origin.ffmpeg import find; from origin.whip import lacking; "
    "found = find(); print(found, lacking(found), sep='\\t')"
)


def run(
    *,
    ports: Ports | None = None,
    publish: bool = True,
    duration_ms: int = 0,
    as_json: bool = False,
) -> int:
    """Run until Ctrl-C, SIGTERM, the duration (0: none) or a failure. Returns the exit code."""
    console = Console(stderr=as_json, highlight=False, markup=False, soft_wrap=True)
    try:
        with tempfile.TemporaryDirectory(prefix="edgecache-demo-") as home:
            demo = Demo(home=Path(home), ports=free_ports(ports or Ports()), publish=publish)
            asyncio.run(_run(demo, console, duration_ms, as_json=as_json))
    except DemoError as error:
        for line in error.details:
            sys.stderr.write(f"    {line}\n")
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


async def _run(demo: Demo, console: Console, duration_ms: int, *, as_json: bool) -> None:
    """Start, show, wait, stop. Raises DemoError."""
    asked = asyncio.Event()
    with _signals(asked):
        try:
            if await _unless(asked, _prepare(demo, console)):
                if as_json:
                    sys.stdout.write(json.dumps(demo.facts()) + "\n")
                    sys.stdout.flush()
                else:
                    console.print(demo.guide())
                await _unless(asked, _watch(demo, duration_ms))
        finally:
            if not as_json:
                console.print("stopping")
            await children.stop(demo.running[::-1], _GRACE_S)


@contextlib.contextmanager
def _signals(asked: asyncio.Event) -> Iterator[None]:
    """While this lasts, the signals that end a program set `asked`, and do nothing else."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, asked.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave the files


async def _unless(asked: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do the work; False if it was asked to stop first, and the work was dropped."""
    task = asyncio.create_task(work)
    stop = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        return task.done()
    finally:
        stop.cancel()
        task.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


async def _prepare(demo: Demo, console: Console) -> None:
    """Everything up to a stream that plays at both POPs. Raises DemoError."""
    with _progress(console) as say:
        found = await _command("looking for ffmpeg", "-c", _FFMPEG)
        demo.ffmpeg, _, lacking = found.partition("\t")
        demo.whip = not lacking
        say(f"using {demo.ffmpeg}")
        configs = write_settings(demo)
        for stream in dict.fromkeys((STREAM, demo.own)):
            demo.keys[stream] = await _create_key(configs["origin"], stream)
        say("starting two POPs and the origin")  # ended in the reverse order
        for name in ("pop-a", "pop-b"):
            await _start(demo, name, "edgecache", "serve", "-c", str(configs[name]))
        await _start(demo, "origin", "origin", "serve", "-c", str(configs["origin"]))
        for port in (demo.ports.admin_a, demo.ports.admin_b, demo.ports.admin_origin):
            await _until(demo, f"{HOST}:{port} to be ready", _READY_S, partial(_ready, port))
        if demo.publish:
            say("publishing the test pattern through POP A")
            await _start(demo, "publisher", "origin", "testpattern", demo.publish_url(STREAM))
            for port in (demo.ports.http_a, demo.ports.http_b):
                say(f"waiting for the first video at {HOST}:{port}")
                await _until(demo, "the video", _PLAYING_S, partial(_plays, port))


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], None]]:
    """One line that changes on a terminal, lines elsewhere."""
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(text)
    else:
        yield lambda text: console.print(text)


async def _create_key(config: Path, stream: str) -> str:
    return await _command(
        f"creating the key of {stream}", "-m", "origin", "keys", "create", stream, "-c", str(config)
    )


async def _command(what: str, *arguments: str) -> str:
    """The last line that our Python prints. Raises DemoError with its last line of errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), _COMMAND_S)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise DemoError(f"{what}: no answer within {_COMMAND_S:g} s") from None
        raise
    lines = (err if process.returncode else out).decode("utf-8", "replace").strip().splitlines()
    last = lines[-1] if lines else ""
    if process.returncode:
        raise DemoError(f"{what}: {last.rpartition('Error: ')[2]}")
    return last


async def _start(demo: Demo, name: str, *arguments: str) -> None:
    argv = [sys.executable, "-P", "-m", *arguments]
    demo.running.append(await children.start(name, argv, demo.home / f"{name}.log"))


async def _until(
    demo: Demo, what: str, within_s: float, check: Callable[[], Coroutine[None, None, bool]]
) -> None:
    """Ask until the answer is yes. Raises DemoError when a child has gone or time is up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while True:
                for child in demo.running:
                    if child.process.returncode is not None:
                        raise _gone(child)
                if await check():
                    return
                await asyncio.sleep(_POLL_S)
    tails = [line for child in demo.running for line in [f"{child.name}:", *child.tail(4)]]
    raise DemoError(f"waited {within_s:g} s for {what}", tails)


async def _ready(port: int) -> bool:
    return (await _get(port, "/readyz"))[0] == 200


async def _plays(port: int) -> bool:
    """Whether the multivariant playlist is there, and its first media playlist lists a part."""
    status, body = await _get(port, f"/live/{STREAM}/master.m3u8")
    names = [line for line in body.splitlines() if line and not line.startswith("#")]
    if status != 200 or not names:
        return False
    status, body = await _get(port, f"/live/{STREAM}/{names[0].rpartition('/')[2]}")
    return status == 200 and "#EXT-X-PART:" in body


async def _get(port: int, path: str) -> tuple[int, str]:
    """(status, body) of a small answer; (0, "") when there is none in time."""
    writer = None
    try:
        async with asyncio.timeout(_REQUEST_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            head = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())
            answer = b""
            while len(answer) < _BODY_BYTES and (data := await reader.read(_BODY_BYTES)):
                answer += data
    except (OSError, TimeoutError):
        return 0, ""
    finally:
        if writer:
            writer.close()
    head, _, body = answer.decode("utf-8", "replace").partition("\r\n\r\n")
    code = head[9:12]
    return (int(code) if code.isdigit() else 0), body


async def _watch(demo: Demo, duration_ms: int) -> None:
    """Until the duration is over; raises DemoError when a child has gone before."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(duration_ms / 1000 if duration_ms else None):
            raise _gone(await children.first_gone(demo.running))


def _gone(child: Child) -> DemoError:
    code = child.process.returncode
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return DemoError(f"{child.name} has ended by itself ({how})", child.tail())
