"""The boxes of a HEIC and its relatives: which codec, how large is the picture, is everything there?

Sources: ISO/IEC 14496-12 (boxes, brands, iloc), ISO/IEC 23008-12 (brands, pitm, iprp, ispe, irot, clap).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

HEVC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
AV1 = frozenset({b"avif", b"avis"})
CONTAINERS = frozenset({b"mif1", b"msf1"})
MOST_BOXES = 10_000
MOST_EXTENTS = 20_000


def brands(content: bytes) -> list[bytes]:
    """The brands of an ISO base media file, its own first; none where it is no such file."""
    if content[4:8] != b"ftyp":
        return []
    listed = content[8:12] + content[16 : min(int.from_bytes(content[:4], "big"), 256)]
    return [listed[at : at + 4] for at in range(0, len(listed), 4)]


def is_heic(content: bytes) -> bool:
    """By the brand of the codec, or by that of the container where no other codec is named."""
    named = brands(content)
    if not named or named[0] in AV1:
        return False
    return not HEVC.isdisjoint(named) or (named[0] in CONTAINERS and AV1.isdisjoint(named))


def measure(content: bytes) -> tuple[int, int, int, bool]:
    """Width, height, and how many bytes are needed; False where the last box says only that it lasts to the end.

    Raises LookupError or struct.error where a box that it takes to tell is missing or cut.
    """
    top = _inner(content, 0, len(content))
    if b"moov" in top and b"meta" not in top:
        return 0, 0, 0, False  # a film without a still picture
    start, stop = top[b"meta"]
    meta = _inner(content, start + 4, stop)
    width, height = _size(content, meta)
    needed = _data_end(content, meta[b"iloc"][0])
    *_, (_, _, end) = _boxes(content, 0, len(content))
    return width, height, needed if end == math.inf else max(needed, int(end)), end != math.inf


def _boxes(content: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, float]]:
    """Type, start and end of the content of each box; the end is infinite where the box lasts as long as the file."""
    for _ in range(MOST_BOXES):
        if stop - at < 8:
            return
        size, kind = struct.unpack_from(">I4s", content, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, start)
            start += 8
        if not kind.isalnum() or 0 < size < start - at:
            return  # no box: something else stands behind the last one
        if size == 0:
            yield kind, start, math.inf
            return
        at += size
        yield kind, start, at


def _inner(content: bytes, start: int, stop: int) -> dict[bytes, tuple[int, int]]:
    """Where the boxes within a box begin and end, the first of each type."""
    found: dict[bytes, tuple[int, int]] = {}
    for kind, begins, ends in _boxes(content, start, stop):
        found.setdefault(kind, (begins, int(min(ends, stop))))
    return found


def _number(content: bytes, at: int, size: int) -> int:
    if at + size > len(content):
        raise IndexError
    return int.from_bytes(content[at : at + size], "big")


def _size(content: bytes, meta: dict[bytes, tuple[int, int]]) -> tuple[int, int]:
    """Width and height of the primary item as it is shown: coded (ispe), cropped (clap), turned (irot)."""
    at, _ = meta[b"pitm"]
    primary = _number(content, at + 4, 4 if content[at] else 2)
    inner = _inner(content, *meta[b"iprp"])
    properties = list(_boxes(content, *inner[b"ipco"]))
    width = height = 0
    for place in _properties_of(content, inner[b"ipma"][0], primary):
        kind, at, _ = properties[place - 1]
        if kind == b"ispe":
            width, height = struct.unpack_from(">II", content, at + 4)
        elif kind == b"clap":
            across, by, down, per = struct.unpack_from(">IIII", content, at)
            width, height = across // max(by, 1), down // max(per, 1)
        elif kind == b"irot" and content[at] & 1:
            width, height = height, width
    return width, height


def _properties_of(content: bytes, at: int, item: int) -> list[int]:
    """The places, from 1, of an item's properties in the list of all."""
    wide, size = 4 if content[at] else 2, 2 if content[at + 3] & 1 else 1
    count = _number(content, at + 4, 4)
    at += 8
    for _ in range(min(count, MOST_BOXES)):
        found, many = _number(content, at, wide), content[at + wide]
        at += wide + 1
        if found == item:
            essential = 1 << (8 * size - 1)
            places = [_number(content, at + size * n, size) & (essential - 1) for n in range(many)]
            return [place for place in places if place]
        at += many * size
    return []


def _data_end(content: bytes, at: int) -> int:
    """Where the last byte of any item's data stands, of those that stand in the file itself."""
    version, sizes = content[at], _number(content, at + 4, 2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    index_size = index_size if version else 0
    wide = 4 if version == 2 else 2
    count = _number(content, at + 6, wide)
    at += 6 + wide
    end, left = 0, MOST_EXTENTS
    for _ in range(min(count, MOST_BOXES)):
        at += wide
        method = _number(content, at, 2) & 15 if version else 0
        at += 4 if version else 2
        base = _number(content, at, base_size)
        extents = min(left, _number(content, at + base_size, 2))
        left -= extents
        at += base_size + 2
        for _ in range(extents):
            at += index_size
            offset = _number(content, at, offset_size)
            length = _number(content, at + offset_size, length_size)
            at += offset_size + length_size
            if method == 0:
                end = max(end, base + offset + length)
    return end
