"""SIGHUP with other routes: they count for the next request, on connections that were there too."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.running import Edge, ScriptedOrigin, ok, read_all, read_head
from tests.scripted_packager import Packager

FRESH = "Cache-Control: max-age=600"


def table(*routes: str) -> str:
    return "\n".join(f"[[route]]\n{route}" for route in routes)


def test_routes_change_while_serving(
    tmp_path: Path, origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    file = tmp_path / "edge.toml"
    file.touch()
    first, second = f'origins = ["{origin.url}"]', f'origins = ["{spare.url}"]'
    for server, body in ((origin, b"first"), (spare, b"second")):
        for path in ("/a/x.m4s", "/a/y.m4s", "/b/page", "/b/other", "/a/after.m4s"):
            server.says(path, ok(body, FRESH))
    spare.scripts["/b/form"] = lambda asked: [ok(asked.method.encode() + b"second")]

    with Edge(arguments=("-c", str(file)), options=("http.workers=2",)) as edge:

        def told(*routes: str) -> dict[str, object]:
            file.write_text(table(*routes))
            edge.process.send_signal(signal.SIGHUP)
            return edge.logged("reloaded")

        with edge.raw() as kept:
            kept.sendall(b"GET /a/x.m4s?s=1 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert read_head(kept)[0].startswith(b"HTTP/1.1 5")  # nobody is configured
            changed = told(
                f'prefix = "/a/"\nquery = ["s"]\n{first}',
                f'prefix = "/b/"\nkind = "http"\n{second}',
            )
            assert changed["needs_restart"] == "[]"
            for path in ("/a/y.m4s?s=1", "/a/y.m4s?s=2&t=3"):
                assert edge.get(path).body == b"first"
            targets = [asked.target for asked in origin.asked]
            assert targets == ["/a/y.m4s?s=1", "/a/y.m4s?s=2"]
            kept.sendall(b"POST /b/form HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            head, body = read_head(kept)
            assert head.startswith(b"HTTP/1.1 200")
            while len(body) < len(b"POSTsecond"):
                body += kept.recv(100)
            assert body == b"POSTsecond"

            told(f'prefix = "/a/"\n{second}')
            assert edge.get("/a/after.m4s?s=9").body == b"second"
            kept.sendall(b"POST /b/form HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert read_all(kept).startswith(b"HTTP/1.1 405")  # no site any more


def test_a_bad_table_is_one_line_and_the_old_one_stays(
    tmp_path: Path, origin: ScriptedOrigin
) -> None:
    file = tmp_path / "edge.toml"
    origin.says("/a/kept.m4s", ok(b"first", FRESH))
    good = f'prefix = "/a/"\norigins = ["{origin.url}"]'
    file.write_text(table(good))
    with Edge(arguments=("-c", str(file)), options=("http.workers=1",)) as edge:
        for bad in ('prefix = "a"', good):
            file.write_text(table(good, bad))
            edge.process.send_signal(signal.SIGHUP)
            line = edge.logged_like("configuration rejected, the old one stays: ")
            assert "route" in str(line["message"])
        assert edge.get("/a/kept.m4s").body == b"first"
        assert edge.metrics()["edge_reloads_rejected"] == 2


def test_a_playlist_is_followed_at_its_new_origin(
    tmp_path: Path, origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    file = tmp_path / "edge.toml"
    old, new = (Packager(each, "/live/v.m3u8", target_s=4) for each in (origin, spare))
    file.write_text(table(f'prefix = "/live/"\norigins = ["{origin.url}"]'))
    with Edge(arguments=("-c", str(file)), options=("http.workers=1",)) as edge:
        assert edge.get(old.path).status == 200
        edge.settled("edge_playlists_followed", 1)
        file.write_text(table(f'prefix = "/live/"\norigins = ["{spare.url}"]'))
        edge.process.send_signal(signal.SIGHUP)
        edge.logged("reloaded")
        edge.settled("edge_playlists_followed", 0)
        assert edge.get(new.path).status == 200
        edge.settled("edge_playlists_followed", 1)
        assert spare.count(new.path) > 0
