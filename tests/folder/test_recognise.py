"""What picture is it? Pillow is the judge."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from larkdrop.folder.recognise import End, Shape, recognise
from tests.helpers import FORMATS, picture

SIZES = [(1, 1), (2, 3), (255, 256), (257, 17), (1999, 31)]
MARKED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "HEIC")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", SIZES)
def test_format_and_size_agree_with_pillow(form: str, size: tuple[int, int]) -> None:
    """For every format and several sizes."""
    content = picture(1, form, (max(size[0], 32), max(size[1], 32)) if form == "ICO" else size)
    with Image.open(io.BytesIO(content)) as judged:
        found = recognise(content)
        assert (found.format, found.width, found.height) == (form, *judged.size)
    assert found.end is (End.WHOLE if form in MARKED else End.LIKELY)


def test_a_pointer_past_all_bytes_is_a_picture_that_is_cut() -> None:
    """A BigTIFF's directory may be said to lie anywhere below 2^64."""
    assert recognise(b"II+\0\x08\0\0\0" + b"\xff" * 8 + bytes(50)) == Shape("TIFF", end=End.CUT)


VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "progressive jpeg": ("JPEG", "RGB", {"progressive": True}),
    "cmyk jpeg": ("JPEG", "CMYK", {}),
    "jpeg with exif": ("JPEG", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
    "palette png": ("PNG", "P", {}),
    "16 bit png": ("PNG", "I;16", {}),
    "lossy webp": ("WEBP", "RGB", {"quality": 40}),
    "alpha webp": ("WEBP", "RGBA", {"quality": 40}),
    "lossless webp": ("WEBP", "RGBA", {"lossless": True}),
    "grey bmp": ("BMP", "L", {}),
    "one bit bmp": ("BMP", "1", {}),
    "lzw tiff": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "big tiff": ("TIFF", "RGB", {"big_tiff": True}),
    "interlaced gif": ("GIF", "P", {"interlace": 1}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_agree_with_pillow(name: str) -> None:
    """Of the formats as they occur."""
    form, mode, options = VARIANTS[name]
    out = io.BytesIO()
    Image.effect_noise((301, 207), 60).convert(mode).save(out, form, **options)
    found = recognise(out.getvalue())
    assert (found.format, found.width, found.height) == (form, 301, 207)
    assert found.end is (End.WHOLE if form in MARKED else End.LIKELY)


def test_the_smallest_lossless_webp() -> None:
    """Its header is shorter than those of the other kinds."""
    found = recognise(b"RIFF\x12\0\0\0WEBPVP8L\6\0\0\0/Alo\0k")
    assert (found.format, found.end) == ("WEBP", End.WHOLE)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_animations(form: str) -> None:
    """Several frames are one picture, whole at the last byte only."""
    frames = [Image.new("RGB", (50, 40), (n * 20, 0, 0)) for n in range(8)]
    out = io.BytesIO()
    frames[0].save(out, form, save_all=True, append_images=frames[1:])
    content = out.getvalue()
    assert recognise(content).end is End.WHOLE
    assert all(recognise(content[:at]).end is not End.WHOLE for at in range(len(content)))


@pytest.mark.parametrize("form", FORMATS)
def test_a_cut_picture_is_never_whole(form: str) -> None:
    """Cut anywhere, no format passes for whole; what has an end mark is known to be cut, once it is recognised."""
    content = picture(3, form, (40, 33), noise=6000)
    for at in range(len(content)):
        found = recognise(content[:at])
        assert found.end is not End.WHOLE, at
        if found.format in MARKED:
            assert found.end is End.CUT, at


@pytest.mark.parametrize("form", MARKED)
def test_bytes_after_the_end_ask_for_a_second_look(form: str) -> None:
    """More may still be written behind an end mark."""
    assert recognise(picture(3, form) + b"trailer").end is End.LIKELY


def boxes(content: bytes, at: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each box."""
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        yield kind, content[at + 8 : at + size]
        at += size


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def changed(content: bytes, path: tuple[bytes, ...], change: Callable[[bytes], bytes]) -> bytes:
    """A HEIC with the content of one box changed, and its data's place moved accordingly."""
    whole = dict(boxes(content))
    before = _at(whole[b"meta"], path)
    meta = _with(whole[b"meta"], (b"iloc",), lambda iloc: _moved(iloc, len(change(before)) - len(before)))
    return box(b"ftyp", whole[b"ftyp"]) + box(b"meta", _with(meta, path, change)) + box(b"mdat", whole[b"mdat"])


def _at(content: bytes, path: tuple[bytes, ...]) -> bytes:
    found = dict(boxes(content, 4 if content[:4] == bytes(4) else 0))[path[0]]
    return _at(found, path[1:]) if path[1:] else found


def _with(content: bytes, path: tuple[bytes, ...], change: Callable[[bytes], bytes]) -> bytes:
    start = 4 if content[:4] == bytes(4) else 0
    inner = [
        (kind, (_with(held, path[1:], change) if path[1:] else change(held)) if kind == path[0] else held)
        for kind, held in boxes(content, start)
    ]
    return content[:start] + b"".join(box(kind, held) for kind, held in inner)


def _moved(iloc: bytes, more: int) -> bytes:
    """The one item of a file that pillow-heif wrote: version 0, with a base offset of 4 bytes."""
    assert iloc[:8] == b"\0\0\0\0\x44\x40\0\1"
    at = 12
    (offset,) = struct.unpack_from(">I", iloc, at)
    return iloc[:at] + struct.pack(">I", offset + more) + iloc[at + 4 :]


IPCO, IPMA = (b"iprp", b"ipco"), (b"iprp", b"ipma")


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_turned_heic(turns: int) -> None:
    """An iPhone's upright picture is stored lying, and its sides are told as they are shown."""
    content = picture(1, "HEIC", (128, 64))
    count = len(list(boxes(_at(dict(boxes(content))[b"meta"], IPCO))))
    content = changed(content, IPCO, lambda ipco: ipco + box(b"irot", bytes([turns])))
    content = changed(
        content, IPMA, lambda ipma: ipma[:10] + bytes([ipma[10] + 1]) + ipma[11:] + bytes([0x80 | count + 1])
    )
    with Image.open(io.BytesIO(content)) as judged:
        assert judged.size == ((64, 128) if turns & 1 else (128, 64))
        found = recognise(content)
        assert (found.width, found.height, found.end) == (*judged.size, End.WHOLE)


def _wide_ipma(ipma: bytes) -> bytes:
    """With item ids of 32 bits and places of 16."""
    (item,) = struct.unpack_from(">H", ipma, 8)
    places = [(0x8000 if place & 0x80 else 0) | place & 0x7F for place in ipma[11:]]
    return b"\1\0\0\1" + ipma[4:8] + struct.pack(">IB", item, len(places)) + struct.pack(f">{len(places)}H", *places)


OTHER_VERSIONS: dict[str, tuple[tuple[bytes, ...], Callable[[bytes], bytes]]] = {
    "iloc 1": ((b"iloc",), lambda iloc: b"\1" + iloc[1:10] + bytes(2) + iloc[10:]),
    "iloc 2": (
        (b"iloc",),
        lambda iloc: b"\2" + iloc[1:6] + bytes(2) + iloc[6:8] + bytes(2) + iloc[8:10] + bytes(2) + iloc[10:],
    ),
    "pitm 1": ((b"pitm",), lambda pitm: b"\1" + pitm[1:4] + bytes(2) + pitm[4:]),
    "ipma 1": (IPMA, _wide_ipma),
}  # fmt: skip


@pytest.mark.parametrize("version", OTHER_VERSIONS)
def test_a_heic_with_other_versions_of_its_boxes(version: str) -> None:
    """As other writers choose them."""
    content = changed(picture(1, "HEIC", (40, 33)), *OTHER_VERSIONS[version])
    with Image.open(io.BytesIO(content)) as judged:
        judged.load()
    assert recognise(content) == Shape("HEIC", 40, 33, End.WHOLE)
    assert recognise(content[:-1]).end is End.CUT


def test_a_heic_whose_last_box_lasts_to_the_end() -> None:
    """Its length does not tell whether the end is there, but that the picture's data is."""
    content = picture(1, "HEIC")
    at = content.index(b"mdat") - 4
    endless = content[:at] + bytes(4) + content[at + 4 :]
    assert recognise(endless).end is End.LIKELY
    assert recognise(endless + b"more").end is End.LIKELY
    assert recognise(endless[:-1]).end is End.CUT


def test_a_heic_with_lengths_of_64_bits() -> None:
    """As some cameras write them."""
    whole = dict(boxes(picture(1, "HEIC")))
    meta = _with(whole[b"meta"], (b"iloc",), lambda iloc: _moved(iloc, 8))
    mdat = struct.pack(">I4sQ", 1, b"mdat", 16 + len(whole[b"mdat"])) + whole[b"mdat"]
    content = box(b"ftyp", whole[b"ftyp"]) + box(b"meta", meta) + mdat
    assert recognise(content).end is End.WHOLE
    assert recognise(content[:-1]).end is End.CUT
    assert recognise(content + box(b"free", bytes(9))).end is End.WHOLE


def test_a_heic_whose_data_is_missing_though_its_boxes_are_closed() -> None:
    """The place of the data counts, not only the boxes."""
    whole = dict(boxes(picture(1, "HEIC")))
    content = box(b"ftyp", whole[b"ftyp"]) + box(b"meta", whole[b"meta"]) + box(b"mdat", whole[b"mdat"][:-100])
    assert recognise(content).end is End.CUT


def named(form: str, **options: Any) -> bytes:
    """A picture of a format that only gets a name."""
    out = io.BytesIO()
    Image.effect_noise((40, 33), 60).convert("RGB").save(out, form, **options)
    return out.getvalue()


def ftyp(*brands: bytes) -> bytes:
    return box(b"ftyp", brands[0] + bytes(4) + b"".join(brands[1:]))


NAMED = {
    "AVIF": [named("AVIF"), ftyp(b"avis", b"heic"), ftyp(b"mif1", b"avif")],
    "MP4": [ftyp(b"isom", b"mp42"), ftyp(b"qt  ")],
    "SVG": [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<svg>",
        b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN'>\n<svg>",
    ],
    "PDF": [named("PDF")],
    "PSD": [b"8BPS\0\1" + bytes(20)],
    "JPEG 2000": [named("JPEG2000")],
    "JPEG XL": [b"\xff\x0a" + bytes(20), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20)],
    "camera raw": [
        b"II*\0\x10\0\0\0CR\2\0" + bytes(20),
        ftyp(b"crx ", b"isom"),
        named("TIFF", tiffinfo={50706: b"\1\4\0\0"}),
        b"FUJIFILMCCD-RAW 0201",
        b"IIRO\x08\0\0\0",
        b"IIU\0\x08\0\0\0",
    ],
}
HEIF = [ftyp(b"heic", b"mif1"), ftyp(b"mif1", b"heic"), ftyp(b"heix"), ftyp(b"mif1"), ftyp(b"msf1", b"hevc")]


@pytest.mark.parametrize("form", NAMED)
def test_other_formats_are_named(form: str) -> None:
    """Without a size, so that nothing takes them for a picture to send."""
    for content in NAMED[form]:
        found = recognise(content)
        assert (found.format, found.width, found.height) == (form, None, None), content[:40]


def test_every_brand_of_a_heic() -> None:
    """The codec's, and the container's with it."""
    assert {recognise(content).format for content in HEIF} == {"HEIC"}


def raw(photometric: int) -> bytes:
    """What a camera writes: a small picture in the first directory, and the sensor's pixels in one below."""
    small = [(256, 3, 1, 16), (257, 3, 1, 12), (273, 4, 1, 100), (279, 4, 1, 4), (330, 4, 1, 74)]
    below = [(262, 3, 1, photometric)]
    made = b"II*\0\x08\0\0\0"
    for entries in (small, below):
        made += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return made + bytes(20)


def test_a_plain_tiff_is_no_raw_and_a_raw_is_no_tiff() -> None:
    """Only what a sensor alone writes tells: a TIFF with a directory below, or of a camera's make, is sent."""
    assert [recognise(raw(photometric)).format for photometric in (32803, 34892)] == ["camera raw"] * 2
    assert recognise(raw(2)).format == "TIFF"
    assert recognise(named("TIFF", tiffinfo={271: "NIKON CORPORATION"})).format == "TIFF"


def test_a_page_with_a_drawing_is_no_svg() -> None:
    """Nor is text that speaks of one."""
    assert recognise(b"<!DOCTYPE html><html><svg></svg></html>").format is None
    assert recognise(b"words <svg>").format is None


def test_a_bomb_is_measured_without_being_decoded() -> None:
    """A header that announces 60,000 × 60,000 pixels costs nothing."""
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 60000, 60000, 8, 6, 0, 0, 0) + b"\0" * 4
    tracemalloc.start()
    found = recognise(header + b"\0\0\0\0IEND\xaeB`\x82")
    assert (found.width, found.height) == (60000, 60000)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def _hostile() -> dict[str, bytes]:
    million = 10 * 1024 * 1024
    sub_blocks = b"GIF89a" + struct.pack("<HHB", 9, 9, 0) + b"\0\0!\xfe" + b"\x01x" * (million // 2)
    tags = b"".join(struct.pack("<HHII", 279, 4, 0x7FFFFFFF, 8) for _ in range(4000))
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 65535) + tags + bytes(million - len(tags))
    return {
        "gif of tiny blocks": sub_blocks,
        "tiff of large tags": tiff,
        "jpeg of fill bytes": b"\xff\xd8\xff" + b"\xff" * million,
        "jpeg of empty segments": b"\xff\xd8" + b"\xff\xe0\0\x02" * (million // 4),
        "ico of many": b"\0\0\1\0\xff\0" + bytes(million),
        "heic of tiny boxes": ftyp(b"heic") + box(b"free", b"") * (million // 8),
        "heic of many items": ftyp(b"heic")
        + box(
            b"meta",
            bytes(4)
            + box(b"pitm", bytes(4) + b"\xff\xff")
            + box(
                b"iprp",
                box(b"ipco", box(b"free", b"") * 20_000) + box(b"ipma", bytes(4) + b"\xff" * 4 + bytes(million)),
            )
            + box(b"iloc", b"\2" + bytes(5) + b"\xff" * million),
        ),
        "png of nothing": b"\x89PNG\r\n\x1a\n" + bytes(million),
    }


def lines_run(content: bytes) -> int:
    """How many lines of Python it takes, which unlike time is the same on every machine; 600,000 are about 30 ms."""
    count = 0

    def trace(_frame: object, event: str, _arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        recognise(content)
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize("name", _hostile())
def test_hostile_content_costs_little(name: str) -> None:
    """Little work and at most 32 MB for any file of 10 MB, however it is made."""
    content = _hostile()[name]
    tracemalloc.start()
    recognise(content)
    assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    tracemalloc.stop()
    assert lines_run(content) < 600_000


PICTURES = [picture(5, form, (40, 33)) for form in FORMATS]


@settings(max_examples=600, deadline=None)
@given(
    content=st.sampled_from(PICTURES),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, 6000),
    more=st.binary(max_size=40),
)
def test_mutated_pictures_never_raise(content: bytes, changes: list[tuple[int, int]], cut: int, more: bytes) -> None:
    """Whatever the bytes, there is an answer."""
    mutated = bytearray(content)
    for at, value in changes:
        mutated[at % len(mutated)] = value
    found = recognise(bytes(mutated[:cut]) + more)
    assert found.format in {None, *FORMATS, *NAMED}


@settings(max_examples=200, deadline=None)
@given(head=st.sampled_from([content[:40] for content in PICTURES]), tail=st.binary(max_size=300))
def test_noise_behind_a_header_never_raises(head: bytes, tail: bytes) -> None:
    """Nor when only the header is right."""
    recognise(head + tail)
