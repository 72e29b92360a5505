# Shared by the scripts beside it: sourced, never run. One line a step, the details in a log.
set -eu
cd "$(dirname "$0")/.."
: "${PYTHON:=python3}" "${VENV:=.venv}" "${STAMP:=$VENV/stamp}"
BIN="$VENV/bin"

say() { printf '%s\n' "==> $*" >&2; }

die() {
    printf '%s\n' "error: $*" >&2
    exit 1
}

# step LOG WHAT COMMAND…: runs the command into the log; if it fails, its last words and one line.
step() {
    step_log=$1 step_what=$2
    shift 2
    say "$step_what"
    mkdir -p "$(dirname "$step_log")"
    step_start=$(date +%s)
    if ! "$@" >"$step_log" 2>&1 </dev/null; then
        tail -n 12 "$step_log" >&2
        die "$step_what: failed; the whole log is in $step_log"
    fi
    step_took=$(($(date +%s) - step_start))
    [ "$step_took" -lt 2 ] || say "$step_what: ${step_took} s"
}

done_with() {
    mkdir -p "$STAMP"
    touch "$STAMP/$1"
}

# One line: path, version and where it was found; or why there is none, and exit 1.
which_ffmpeg() {
    "$BIN/python" -c '
import sys
from edgecache.errors import ConfigError
from origin.ffmpeg import find
try:
    print(find())
except ConfigError as error:
    sys.exit(str(error))'
}
