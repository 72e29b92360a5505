"""Starts the client that is named, with its parameters as JSON, and prints what it answers."""

from __future__ import annotations

import gc
import json
import sys

from . import exhaustion, holders, publisher, storm, synflood, trace

CLIENTS = {
    "storm": storm.main,
    "fanout": publisher.fanout,
    "push_to_byte": publisher.push_to_byte,
    "exhaustion": exhaustion.main,
    "idle": holders.idle,
    "slow": holders.slow,
    "synflood": synflood.main,
    "trace": trace.main,
}

if __name__ == "__main__":
    gc.disable()  # a collection in mid-storm would be read as the server's lag
    for answer in CLIENTS[sys.argv[1]](json.loads(sys.argv[2])):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
