"""ffmpeg's encoders of pictures, and what each is told so that all of them make the same stream.

Laws: key frames where they are forced and nowhere else, each closing what was before it; no picture
is reordered or held back; at most the rate, and a buffer of a second of it. Knows nothing of plans
and processes. The options of software were tried on ffmpeg 5.1.9 and 9.0.2; both know those of the
hardware, which we have not: hardware.py tries them where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Coder:
    """name, options: ffmpeg's. devices: which of these files are there with it (glob); "": it is
    software. opening: in front of the input. upload: filters in front of it."""

    name: str
    options: tuple[str, ...]
    devices: str = ""
    opening: tuple[str, ...] = ()
    upload: str = ""


# By codec, in the order in which players are offered them: first what everybody can play. None has
# a delay of its own (a frame; SVT-AV1 1.4 has three), and each is one thread, but for x264's
# slices.
SOFTWARE: Final = {
    "h264": Coder(name="libx264", options=("-tune", "zerolatency", "-profile:v", "main")),
    "hevc": Coder(
        name="libx265",
        options=(
            *("-tune", "zerolatency", "-tag:v", "hvc1", "-x265-params"),
            "log-level=error:pools=none:frame-threads=1:scenecut=0:open-gop=0",
        ),
    ),
    "av1": Coder(name="libsvtav1", options=("-svtav1-params", "pred-struct=1:rc=2:scd=0:lp=1")),
}
# H.264 only, the most capable first. One device for all rungs, or each would open its own.
HARDWARE: Final = {
    coder.name: coder
    for coder in (
        Coder(
            name="h264_nvenc",
            options=(
                *("-preset", "p4", "-tune", "ll", "-profile:v", "main", "-pix_fmt", "yuv420p"),
                # a forced picture would be an I, but no IDR; and it waits for no later ones
                *("-rc", "cbr", "-forced-idr", "1", "-no-scenecut", "1"),
                *("-zerolatency", "1", "-delay", "0"),
            ),
            devices="/dev/nvidia[0-9]*",
            opening=("-init_hw_device", "cuda=hw"),
        ),
        Coder(
            name="h264_qsv",
            options=(
                *("-preset", "veryfast", "-profile:v", "main", "-pix_fmt", "nv12"),
                *("-forced_idr", "1", "-adaptive_i", "0", "-async_depth", "1"),
            ),
            devices="/dev/dri/renderD*",
            opening=("-init_hw_device", "qsv=hw"),
        ),
        Coder(
            name="h264_vaapi",
            options=("-profile:v", "main", "-async_depth", "1"),
            devices="/dev/dri/renderD*",
            opening=("-init_hw_device", "vaapi=hw", "-filter_hw_device", "hw"),
            upload=",format=nv12,hwupload",
        ),
        Coder(
            name="h264_v4l2m2m",
            # Parameter sets come with its first picture, which the init section has to wait for.
            options=("-pix_fmt", "yuv420p", "-movflags", "+delay_moov"),
            devices="/dev/video*",
        ),
    )
}


def coder_of(codec: str, h264: str) -> Coder:
    """Of a rung of `codec`. h264: the name of the one for H.264."""
    return (HARDWARE.get(h264) if codec == "h264" else None) or SOFTWARE[codec]


def options(
    codec: str, h264: str, *, preset: str, threads: int, bitrate: int, fps: float, segment_s: float
) -> list[str]:
    """What makes a picture's rendition, in the rates of ladder.py. preset, threads: of software;
    fps: pictures a second of this one."""
    coder, rate = coder_of(codec, h264), str(bitrate)
    own = codec == "av1"  # bounded by itself; version 1.4 cannot be told where to put keys
    gop = round(fps * segment_s * (1 if own else 2))
    told = ["-c:v", coder.name, *coder.options]
    if not coder.devices:
        told += ["-preset", preset, "-threads:v", str(threads), "-pix_fmt", "yuv420p"]
    told += ["-b:v", rate, *(() if own else ("-maxrate", rate, "-bufsize", rate))]
    # Keyframes only where the grid wants them; t counts from the first encoded frame.
    told += ["-g", str(gop)]
    if coder.devices:
        told += ["-bf", "0", "-flags:v", "+cgop"]
    else:
        told += ["-keyint_min", "1", "-sc_threshold", "0"]
    told += ["-force_key_frames", f"expr:gte(t,n_forced*{segment_s:g})"]
    return [*told, "-video_track_timescale", "90000"]
