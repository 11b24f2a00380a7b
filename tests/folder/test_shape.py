"""What picture is it? Pillow is the judge."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from larkdrop.folder.shape import End, recognise
from tests.helpers import FORMATS, picture

SIZES = [(1, 1), (2, 3), (255, 256), (257, 17), (1999, 31)]
MARKED = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", SIZES)
def test_format_and_size_agree_with_pillow(form: str, size: tuple[int, int]) -> None:
    """For every format and several sizes."""
    content = picture(1, form, (max(size[0], 32), max(size[1], 32)) if form == "ICO" else size)
    with Image.open(io.BytesIO(content)) as judged:
        found = recognise(content)
        assert (found.format, found.width, found.height) == (form, *judged.size)
    assert found.end is (End.WHOLE if form in MARKED else End.LIKELY)


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
    assert found.format is None or found.format in FORMATS


@settings(max_examples=200, deadline=None)
@given(head=st.sampled_from([content[:40] for content in PICTURES]), tail=st.binary(max_size=300))
def test_noise_behind_a_header_never_raises(head: bytes, tail: bytes) -> None:
    """Nor when only the header is right."""
    recognise(head + tail)
