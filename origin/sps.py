"""The picture size inside an AVC sequence header, as it is to be shown.

Laws: pure; bounded by the bytes given; anything that is not a whole, plausible SPS gives None,
since the size only chooses rungs and a decoder judges the rest. Source: ISO/IEC 14496-15 5.3.3.1
(AVCDecoderConfigurationRecord), ITU-T H.264 7.3.2.1.1 and E.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_HIGH_PROFILES: Final = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
_MAX_GOLOMB_ZEROS: Final = 31
_MAX_SIDE: Final = 16384
_EXTENDED_SAR: Final = 255
# Of a sample, width to height, by aspect_ratio_idc (H.264 table E-1).
_RATIOS: Final = (
    *((1, 1), (1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11)),
    *((80, 33), (18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1)),
)


class _CutError(Exception):
    """More bits were asked for than there are."""


@dataclass(slots=True)
class _Bits:
    data: bytes
    position: int = 0

    def bits(self, count: int) -> int:
        value = 0
        for _ in range(count):
            byte, bit = divmod(self.position, 8)
            if byte >= len(self.data):
                raise _CutError
            value = value << 1 | (self.data[byte] >> (7 - bit)) & 1
            self.position += 1
        return value

    def unsigned(self) -> int:
        """ue(v), H.264 9.1."""
        zeros = 0
        while not self.bits(1):
            zeros += 1
            if zeros > _MAX_GOLOMB_ZEROS:
                raise _CutError
        return (1 << zeros) - 1 + self.bits(zeros)

    def signed(self) -> int:
        """se(v), H.264 9.1.1."""
        value = self.unsigned()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def picture_size(record: bytes) -> tuple[int, int] | None:
    """(width, height) from an AVCDecoderConfigurationRecord, in pixels that are square: one whose
    samples are not is as much wider. None if it holds no readable SPS."""
    if len(record) < 8 or record[0] != 1 or not record[5] & 31:
        return None
    length = int.from_bytes(record[6:8], "big")
    unit = record[8 : 8 + length]
    if len(unit) < 4 or unit[0] & 31 != 7:
        return None
    try:
        width, height = _size(_Bits(unit[1:].replace(b"\0\0\3", b"\0\0")))
    except _CutError:
        return None
    return (width, height) if 0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE else None


def _size(bits: _Bits) -> tuple[int, int]:
    profile = bits.bits(8)
    bits.bits(16)  # constraint flags, level
    bits.unsigned()  # seq_parameter_set_id
    chroma = _chroma(bits) if profile in _HIGH_PROFILES else 1
    bits.unsigned()  # log2_max_frame_num_minus4
    _order_count(bits)
    bits.unsigned()  # max_num_ref_frames
    bits.bits(1)  # gaps_in_frame_num_value_allowed_flag
    columns, rows = bits.unsigned() + 1, bits.unsigned() + 1
    frames_only = bits.bits(1)
    if not frames_only:
        bits.bits(1)  # mb_adaptive_frame_field_flag
    bits.bits(1)  # direct_8x8_inference_flag
    width, height = columns * 16, rows * 16 * (2 - frames_only)
    if bits.bits(1):
        left, right, top, bottom = (bits.unsigned() for _ in range(4))
        unit_x = 2 if chroma in (1, 2) else 1
        unit_y = (2 if chroma == 1 else 1) * (2 - frames_only)
        width -= (left + right) * unit_x
        height -= (top + bottom) * unit_y
    across, down = _ratio(bits)
    return round(width * across / down), height


def _ratio(bits: _Bits) -> tuple[int, int]:
    """Of a sample; (1, 1) when nothing is told, or not wholly."""
    try:
        if not (bits.bits(1) and bits.bits(1)):  # VUI, aspect_ratio_info
            return 1, 1
        code = bits.bits(8)
        told = (bits.bits(16), bits.bits(16)) if code == _EXTENDED_SAR else None
    except _CutError:
        return 1, 1
    ratio = told or (_RATIOS[code] if code < len(_RATIOS) else (1, 1))
    return ratio if all(ratio) else (1, 1)


def _chroma(bits: _Bits) -> int:
    chroma = bits.unsigned()
    if chroma == 3:
        bits.bits(1)  # separate_colour_plane_flag
    bits.unsigned()  # bit_depth_luma_minus8
    bits.unsigned()  # bit_depth_chroma_minus8
    bits.bits(1)  # qpprime_y_zero_transform_bypass_flag
    if bits.bits(1):
        for index in range(12 if chroma == 3 else 8):
            if bits.bits(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return chroma


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _order_count(bits: _Bits) -> None:
    kind = bits.unsigned()
    if kind == 0:
        bits.unsigned()  # log2_max_pic_order_cnt_lsb_minus4
    elif kind == 1:
        bits.bits(1)
        bits.signed()
        bits.signed()
        cycles = bits.unsigned()
        if cycles > 255:
            raise _CutError
        for _ in range(cycles):
            bits.signed()
