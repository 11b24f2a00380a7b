"""The directories of a TIFF: how large is the picture, is everything there, or is it a camera's raw?

Sources: TIFF 6.0, BigTIFF (libtiff), TIFF/EP and DNG 1.7 for what marks a raw.
"""

from __future__ import annotations

import struct

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_ENTRIES = 4096
MOST_VALUES = 100_000
TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
WIDTH, HEIGHT, STRIPS, STRIP_SIZES, TILES, TILE_SIZES = 256, 257, 273, 279, 324, 325
PHOTOMETRIC, SUB_DIRECTORIES, DNG_VERSION = 262, 330, 50706
TAGS = {WIDTH, HEIGHT, STRIPS, STRIP_SIZES, TILES, TILE_SIZES, PHOTOMETRIC, SUB_DIRECTORIES, DNG_VERSION}
# What only a camera's sensor gives: a colour filter array, and linear raw.
SENSOR = {32803, 34892}


def is_tiff(content: bytes) -> bool:
    """Whether it begins like a TIFF and is no camera's raw."""
    return content.startswith(STARTS) and not is_raw(content)


def is_raw(content: bytes) -> bool:
    """Whether what begins like a TIFF is a camera's raw: by Canon's mark, Adobe's tag, or a sensor's pixels."""
    if content.startswith(b"II*\0\x10\0\0\0CR\x02"):
        return True
    if not content.startswith(STARTS):
        return False
    try:
        first = _directory(content)
        directories = [first, *(_directory(content, at) for at in first.get(SUB_DIRECTORIES, ())[:8])]
    except (struct.error, OverflowError):
        return False
    return DNG_VERSION in first or any(SENSOR & set(values.get(PHOTOMETRIC, ())) for values in directories)


def measure(content: bytes) -> tuple[int, int, int]:
    """Width and height by the first directory, and how many bytes its strips or tiles need. BigTIFF too.

    Raises struct.error or OverflowError where the directory is cut.
    """
    values = _directory(content)
    starts = values.get(STRIPS) or values.get(TILES) or ()
    sizes = values.get(STRIP_SIZES) or values.get(TILE_SIZES) or ()
    needed = max((start + size for start, size in zip(starts, sizes, strict=False)), default=0)
    return values.get(WIDTH, (0,))[0], values.get(HEIGHT, (0,))[0], needed


def _directory(content: bytes, at: int | None = None) -> dict[int, tuple[int, ...]]:
    """The values of ``TAGS`` in the directory at some place, or in the first."""
    order = "<" if content[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", content, 2)[0] == 43
    pointer = order + ("Q" if big else "I")
    if at is None:
        (at,) = struct.unpack_from(pointer, content, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), content, at)
    at += 8 if big else 2
    inline, entry_size = (8, 20) if big else (4, 12)  # so many bytes of values stand in the entry itself
    entries: dict[int, tuple[str, int]] = {}  # a tag that is listed a thousand times is read once
    for end in range(at + entry_size, at + (min(count, MOST_ENTRIES) + 1) * entry_size, entry_size):
        tag, kind, length = struct.unpack_from(order + ("HHQ" if big else "HHI"), content, end - entry_size)
        if tag in TAGS and kind in TYPES:
            entries[tag] = f"{order}{min(length, MOST_VALUES)}{TYPES[kind]}", end - inline
    values: dict[int, tuple[int, ...]] = {}
    for tag, (form, place) in entries.items():
        outside = struct.calcsize(form) > inline
        start = struct.unpack_from(pointer, content, place)[0] if outside else place
        values[tag] = struct.unpack_from(form, content, start)
    return values
