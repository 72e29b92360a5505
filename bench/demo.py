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
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from .errors import BenchError

STOP_S: Final = 25.0


@contextmanager
def demo(options: Mapping[str, str], arguments: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """What `edgecache demo --json` says, for as long as this lasts. options: the origin's, by
    variable without its prefix (LIVE__PARTS -> 10). Raises BenchError when it does not start."""
    given = {f"ORIGIN__{name}": value for name, value in options.items()}
    command = [str(Path(sys.executable).with_name("edgecache")), "demo", "--json", *arguments]
    process = subprocess.Popen(
        command,
        env={**os.environ, **given},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise BenchError("the demo did not start")
        yield json.loads(line)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        finally:
            process.kill()
            process.communicate()
