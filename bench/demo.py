"""`edgecache demo` as what a bench watches: an origin, two POPs, and a test pattern or none.

Law: started in a session of its own and ended by its id, with all its children, when the block is
left, however that is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from .errors import BenchError

STOP_S: Final = 25.0


@contextmanager
def demo(
    options: Mapping[str, str], arguments: Sequence[str] = (), *, home: Path | None = None
) -> Iterator[dict[str, Any]]:
    """What `edgecache demo --json` says, for as long as this lasts. options: the origin's, by
    variable without its prefix (LIVE__PARTS -> 10); home: where its folder goes, and `log`, what it
    says on stderr. Raises BenchError when it does not start, or ends with an error."""
    given = {f"ORIGIN__{name}": value for name, value in options.items()}
    command = [str(Path(sys.executable).with_name("edgecache")), "demo", "--json", *arguments]
    with (home / "log").open("wb") if home else nullcontext() as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **given, **({"TMPDIR": str(home)} if home else {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            said = (home / "log").read_text() if home else "see above"
            raise BenchError(f"the demo did not start: {said}")
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        finally:
            process.kill()
            process.communicate()
    if process.returncode:
        raise BenchError(f"the demo ended with {process.returncode}")
