"""The viewer swarm: thousands of viewers in one process that really play a stream.

They load playlists, reload them (blocking, or by polling), fetch every part or segment in time with
the media clock, and compare every byte. Works against any HLS server over plain HTTP/1.1.
"""

from __future__ import annotations
