"""What picture is it, how large, and is its end there? Told from the bytes only, without decoding.

Every reader is bounded: it looks at the header and at the end mark, and walks a bounded number of blocks between them.
Pillow is not used here: it does not tell whether a file's end is there, and who looks for that has read the header.
Sources: RFC 2083 (PNG), ITU T.81 (JPEG), GIF89a, RFC 9649 (WEBP), BITMAPINFOHEADER, the ICO directory; see
``heif`` and ``tiff`` for theirs. Other formats are only named, by their magic bytes, so that a rejection can name them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from larkdrop.folder import heif, tiff

MOST_STEPS = 100_000
MOST_SEGMENTS = 20_000


class End(Enum):
    """How sure it is that the last byte was written."""

    WHOLE = "whole"  # the end mark or the length field agrees with the file's last byte
    LIKELY = "likely"  # all that the picture needs is there, but more may follow, or the format has no end mark
    CUT = "cut"  # something that the header announces is missing


@dataclass(frozen=True)
class Shape:
    """``format``, ``width`` and ``height`` (pixels) are None where the content doesn't tell them.

    A format that is only named has no width and height.
    """

    format: str | None = None
    width: int | None = None
    height: int | None = None
    end: End = End.LIKELY


def recognise(content: bytes) -> Shape:
    """The shape of a picture's bytes. Never raises, whatever the bytes."""
    for magic, form, reader in _READERS:
        if magic(content):
            try:
                width, height, end = reader(content)
            except (struct.error, LookupError, OverflowError):
                return Shape(form, end=End.CUT)
            if width < 1 or height < 1:
                return Shape(end=end)
            return Shape(form, width, height, end)
    return Shape(next((name for magic, name in _NAMED if magic(content)), None))


Measured = tuple[int, int, End]


def _end_by_mark(content: bytes, mark: bytes, start: int) -> End:
    """The end by a mark that must stand somewhere after ``start``."""
    if content.endswith(mark) and len(content) >= start + len(mark):
        return End.WHOLE
    return End.LIKELY if content.rfind(mark, start) >= 0 else End.CUT


def _end_by_length(content: bytes, needed: int, *, exact: bool = True) -> End:
    """The end by a length that the header announces; where that is not ``exact``, more may follow."""
    if exact and len(content) == needed:
        return End.WHOLE
    return End.LIKELY if len(content) >= needed else End.CUT


def _png(content: bytes) -> Measured:
    width, height = struct.unpack_from(">II", content, 16)
    return width, height, _end_by_mark(content, b"\0\0\0\0IEND\xaeB`\x82", 33)


_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def _jpeg(content: bytes) -> Measured:
    """The segments up to the first scan; EOI is looked for after it, since embedded thumbnails have one too."""
    at, width, height = 2, 0, 0
    for _ in range(MOST_SEGMENTS):
        if content[at] != 0xFF:
            return 0, 0, End.LIKELY
        marker = content[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:
            return width, height, End.LIKELY
        (length,) = struct.unpack_from(">H", content, at + 2)
        if marker in _FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", content, at + 5)
        at += 2 + length
        if marker == 0xDA:
            return width, height, _end_by_mark(content, b"\xff\xd9", at)
    return 0, 0, End.LIKELY


def _gif(content: bytes) -> Measured:
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    return width, height, _gif_end(content, 13 + _palette(flags))


def _palette(flags: int) -> int:
    """Bytes of the colour table that ``flags`` announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_end(content: bytes, at: int) -> End:
    """Walks blocks and sub-blocks to the trailer, since a trailer's byte alone may stand anywhere in the data."""
    steps = 0
    while content[at] != 0x3B:
        if content[at] == 0x2C:
            at += 11 + _palette(content[at + 9])
        elif content[at] == 0x21:
            at += 2
        else:
            return End.LIKELY
        while size := content[at]:
            at += 1 + size
            steps += 1
            if steps > MOST_STEPS:
                return End.LIKELY if content.endswith(b"\0;") else End.CUT
        at += 1
    return _end_by_length(content, at + 1)


def _webp(content: bytes) -> Measured:
    (size,) = struct.unpack_from("<I", content, 4)
    end = _end_by_length(content, 8 + size + (size & 1))
    kind = content[12:16]
    if kind == b"VP8X":
        (bits,) = struct.unpack_from("<Q", content, 22)  # the sides are the last six bytes of the header
        width, height = (bits >> 16 & 0xFFFFFF) + 1, (bits >> 40) + 1
    elif kind == b"VP8L" and content[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", content, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 " and content[23:26] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
    else:
        width = height = 0
    return width, height, end


def _bmp(content: bytes) -> Measured:
    """By the length field, or by what the pixels need where a writer filled that field wrongly."""
    size, _, pixels, header = struct.unpack_from("<IIII", content, 2)
    if header == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", content, 18)
        compression = 0
    else:
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", content, 18)
    end = _end_by_length(content, size)
    if end is not End.WHOLE and compression == 0:
        needed = pixels + (abs(width) * depth + 31) // 32 * 4 * abs(height)
        end = _end_by_length(content, needed, exact=False)
    return width, abs(height), end


def _ico(content: bytes) -> Measured:
    """The largest of the entries, as viewers show it; a side of 0 stands for 256."""
    (count,) = struct.unpack_from("<H", content, 4)  # at least 1, by the magic bytes
    entries = [struct.unpack_from("<BBBBHHII", content, 6 + 16 * i) for i in range(count)]
    width, height = max((entry[0] or 256, entry[1] or 256) for entry in entries)
    needed = max(entry[6] + entry[7] for entry in entries)
    return width, height, _end_by_length(content, needed, exact=False)


def _heic(content: bytes) -> Measured:
    width, height, needed, told = heif.measure(content)
    return width, height, _end_by_length(content, needed, exact=told)


def _tiff(content: bytes) -> Measured:
    width, height, needed = tiff.measure(content)
    return width, height, _end_by_length(content, needed, exact=False)


def _starts_with(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda content: content.startswith(magics)


def _matches(pattern: bytes) -> Callable[[bytes], bool]:
    match = re.compile(pattern, re.DOTALL).match
    return lambda content: match(content) is not None


_READERS: tuple[tuple[Callable[[bytes], bool], str, Callable[[bytes], Measured]], ...] = (
    (_starts_with(b"\xff\xd8\xff"), "JPEG", _jpeg),
    (_starts_with(b"\x89PNG\r\n\x1a\n"), "PNG", _png),
    (_starts_with(b"GIF87a", b"GIF89a"), "GIF", _gif),
    (_matches(rb"RIFF....WEBP"), "WEBP", _webp),
    (heif.is_heic, "HEIC", _heic),
    (_matches(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00"), "BMP", _bmp),
    (tiff.is_tiff, "TIFF", _tiff),
    (_matches(rb"\x00\x00\x01\x00[^\x00]\x00"), "ICO", _ico),
)

# Of these only the name is told. The first that fits counts, as above.
_NAMED: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (lambda content: not heif.AV1.isdisjoint(heif.brands(content)), "AVIF"),
    (lambda content: b"crx " in heif.brands(content), "camera raw"),
    (lambda content: bool(heif.brands(content)), "MP4"),
    (_starts_with(b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a"), "JPEG XL"),
    (_starts_with(b"\0\0\0\x0cjP  \r\n\x87\n"), "JPEG 2000"),
    (_matches(rb"(\xef\xbb\xbf)?\s*(<(\?xml|!--|!DOCTYPE svg).{,4000}?)?<svg[\s/>]"), "SVG"),
    (_starts_with(b"%PDF-"), "PDF"),
    (_starts_with(b"8BPS"), "PSD"),
    (tiff.is_raw, "camera raw"),
    (_starts_with(b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM"), "camera raw"),
)
