"""A live directory as many run one: ffmpeg or nginx's RTMP module write HLS or DASH, nginx serves
it and logs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from origin.ffmpeg import find
from tests.running import LIMIT_S
from tests.sockets import free_port

_NGINX = """load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  types {{ application/vnd.apple.mpegurl m3u8; application/dash+xml mpd; video/mp4 mp4 m4s; }}
  default_type application/octet-stream;
  gzip {gzip}; gzip_types application/vnd.apple.mpegurl; gzip_http_version 1.0;
  log_format asked '$request_uri $status';
  access_log {dir}/access.log asked;
  client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
  uwsgi_temp_path {dir}; scgi_temp_path {dir};
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
rtmp {{ server {{ listen 127.0.0.1:{rtmp}; application live {{
  live on;
  hls on; hls_path {root}/hls; hls_fragment 1s; hls_playlist_length 6s;
  dash on; dash_path {root}/dash; dash_fragment 1s; dash_playlist_length 6s;
}} }} }}
"""
_SOURCE = "-re -f lavfi -i testsrc2=size=160x90:rate=25 -f lavfi -i sine=frequency=440:r=48000"
_CODECS = (
    "-c:v libx264 -preset ultrafast -g 25 -keyint_min 25 -sc_threshold 0 -pix_fmt yuv420p"
    " -c:a aac -b:a 64k"
)
HLS = "-f hls -hls_time 1 -hls_list_size 6 -hls_flags delete_segments+temp_file"
RTMP = "-f flv"
DASH = "-f dash -seg_duration 1 -window_size 6 -extra_window_size 4 -use_template 1"


@contextmanager
def writing(path: Path, muxer: str, target: str = "") -> Iterator[None]:
    """`path` is written (and what it names, beside it) for as long as this lasts: by ffmpeg, or by
    who packages what ffmpeg sends to `target`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [str(find().path), "-hide_banner", "-loglevel", "error", *_SOURCE.split()]
    command += [*_CODECS.split(), *muxer.split(), target or str(path)]
    with ending(command):
        deadline = time.monotonic() + LIMIT_S
        while not path.exists():
            assert time.monotonic() < deadline, f"{path} was not written"
            time.sleep(0.05)
        yield


@contextmanager
def ending(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs to the end of this and no longer."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield process
        assert process.poll() is None, f"{command[0]} ended by itself: {process.returncode}"
    finally:
        process.terminate()
        try:
            process.wait(LIMIT_S)
        finally:
            process.kill()


class Nginx:
    """Serves `root` on loopback; `asked()` is what it was asked for, with its answers."""

    def __init__(self, root: Path, scratch: Path, *, gzip: bool = False) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        rtmp = free_port()
        self.rtmp = f"rtmp://127.0.0.1:{rtmp}/live/v"
        self._log = scratch / "access.log"
        self._conf = scratch / "nginx.conf"
        text = _NGINX.format(
            dir=scratch, port=self.port, rtmp=rtmp, root=root, gzip="on" if gzip else "off"
        )
        self._conf.write_text(text)

    @contextmanager
    def running(self) -> Iterator[None]:
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert nginx, "nginx is needed: scripts/setup test"
        command = [nginx, "-p", str(self._conf.parent), "-c", str(self._conf), "-e", "stderr"]
        with ending(command):
            deadline = time.monotonic() + LIMIT_S
            while not (self._conf.parent / "nginx.pid").exists():
                assert time.monotonic() < deadline, "nginx did not start"
                time.sleep(0.02)
            yield

    def asked(self) -> list[tuple[str, int]]:
        rows = [line.rsplit(" ", 1) for line in self._log.read_text().splitlines()]
        return [(target, int(status)) for target, status in rows]
