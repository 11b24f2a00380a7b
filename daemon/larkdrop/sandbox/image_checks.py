"""What the platform says of a picture itself; Pillow is the judge here, not larkdrop's own reader."""

from __future__ import annotations

import io
import re
import struct

from PIL import Image, UnidentifiedImageError

from larkdrop.lark import accepted_images

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "ICO")
HEIC = re.compile(rb"....ftyp(heic|heix|hevc|mif1|msf1)", re.DOTALL)
HEIC_SIZE = re.compile(rb"ispe\0{4}(.{8})", re.DOTALL)
Image.MAX_IMAGE_PIXELS = None  # only headers are read; the size is checked here
Image.init()


def problem(image: bytes, image_type: str, *, takes_heic: bool) -> tuple[int, str] | None:
    """The platform's code and message for a picture that it refuses; None for one that it takes."""
    if not image:
        return 234010, "file's size can't be 0."
    if len(image) > accepted_images.MAX_BYTES:
        return 234006, "The file size exceed the max value."
    try:
        form, size = _recognise(image, takes_heic=takes_heic)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error):
        return 234011, "Can't regonnize the image format."
    if max(size) > accepted_images.max_side(form, image_type):
        return 234039, "Image resolution exceeds limit."
    return None


def _recognise(image: bytes, *, takes_heic: bool) -> tuple[str, tuple[int, int]]:
    """Format, width and height. Raises what Pillow raises. Pillow has no HEIC; its largest size is enough here."""
    if takes_heic and HEIC.match(image):
        return "HEIC", max(struct.unpack(">II", sides) for sides in HEIC_SIZE.findall(image))
    with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
        return opened.format or "", opened.size
