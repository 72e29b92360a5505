"""`python -m bench.cachesuite SUITE`: the public suite for HTTP caches against a route of kind
`http` with the shipped defaults, beside the results that the suite keeps of others.

SUITE is a checkout of http-tests/cache-tests in which `npm install` was run; node is needed.
`--record` also writes bench/CACHE_TESTS.md. The suite that `make test` runs is the one npm has,
which is older (tests/system/test_19_cache_suite.py). Law: everything that was started is ended.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from .errors import BenchError
from .facts import taken
from .process import await_listening, spawned

_PAGE: Final = Path(__file__).with_name("CACHE_TESTS.md")
_RUNNER: Final = Path(__file__).with_suffix(".mjs")
_EDGECACHE: Final = str(Path(sys.executable).with_name("edgecache"))
_KINDS: Final = ("required", "optimal")
_LIMIT_S: Final = 300.0

Caches = Mapping[str, Mapping[str, Mapping[str, Any]]]  # cache -> kind -> passed, total, failed


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def run(suite: Path) -> Caches:
    """Raises BenchError."""
    origin, edge = free_port(), free_port()
    settings = {"protocol": "http", "port": str(origin)}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        settings["pidfile"] = str(here / "pid")
        environ = {f"npm_config_{name}": value for name, value in settings.items()}
        server = ["node", str(suite / "test-engine/server/server.mjs")]
        cache = [_EDGECACHE, "serve", "--listen", f"127.0.0.1:{edge}", "--kind", "http"]
        cache += ["--origin", f"http://127.0.0.1:{origin}"]
        with (
            spawned(server, log=here / "origin.log", env=environ) as one,
            spawned(cache, log=here / "edge.log") as other,
        ):
            await_listening(one, origin, here / "origin.log")
            await_listening(other, edge, here / "edge.log")
            command = ["node", "--no-warnings", str(_RUNNER), str(suite)]
            command.append(f"http://127.0.0.1:{edge}")
            done = subprocess.run(command, stdout=subprocess.PIPE, timeout=_LIMIT_S, check=False)
    if done.returncode:
        raise BenchError(f"{_RUNNER.name} ended with {done.returncode}")
    found: Caches = json.loads(done.stdout.splitlines()[-1])
    return found


def version(suite: Path) -> str:
    """Commit and date of the suite."""
    command = ["git", "-C", str(suite), "log", "-1", "--format=%h of %cs"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "?"


def table(caches: Caches) -> Iterator[str]:
    """The best first."""
    yield f"| cache | {' | '.join(_KINDS)} |"
    yield f"|---|{'---|' * len(_KINDS)}"
    order = sorted(caches.items(), key=lambda row: [-row[1][kind]["passed"] for kind in _KINDS])
    for name, row in order:
        cells = (f"{row[kind]['passed']} of {row[kind]['total']}" for kind in _KINDS)
        yield f"| {name} | {' | '.join(cells)} |"
    for kind in _KINDS:
        failed = caches["edgecache"][kind]["failed"]
        yield ""
        yield f"What edgecache does otherwise ({kind}): {', '.join(map('`{}`'.format, failed))}."


def main() -> None:
    """Run it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path, help="a checkout of http-tests/cache-tests")
    parser.add_argument("--record", action="store_true", help="write bench/CACHE_TESTS.md")
    given = parser.parse_args()
    suite = given.suite.resolve()
    if not (suite / "node_modules").is_dir():
        parser.error(f"SUITE: found {suite}, allowed is a checkout in which npm install was run")
    try:
        lines = "\n".join(table(run(suite)))
    except (BenchError, subprocess.TimeoutExpired) as error:
        sys.exit(f"cachesuite: {error}")
    sys.stdout.write(f"{lines}\n")
    if given.record:
        _PAGE.write_text(
            "# The public suite for HTTP caches\n\n"
            f"One run of `python -m bench.cachesuite SUITE --record`: {taken()}."
            f" http-tests/cache-tests, {version(suite)}; the other rows are the results that it"
            " keeps.\n\n"
            f"{lines}\n"
        )


if __name__ == "__main__":
    main()
