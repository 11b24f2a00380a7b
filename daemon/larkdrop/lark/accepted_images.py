"""Which images Lark accepts: formats, bytes and pixels, checked before a call is spent.

Source: the page *Upload image* (im/v1; Lark's of June 2024, Feishu's of July 2026): at most 10 MB, never empty, seven
formats on Lark and HEIC too on Feishu, limits of resolution.
"""

from __future__ import annotations

from larkdrop.errors import PictureFault
from larkdrop.lark import codes

MAX_BYTES = 10 * 1024 * 1024
FORMATS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "ICO", "HEIC"})
# Of these, what only Feishu accepts. It is sent all the same, since only the platform knows which of the two it is.
ONLY_FEISHU = frozenset({"HEIC"})
MAX_SIDE = {"message": 12_000, "avatar": 4096}
MAX_SIDE_OF_FORMAT = {"GIF": 2000}


def max_side(image_format: str, image_type: str) -> int:
    """The most pixels of each side of an image of that format, uploaded as ``message`` or ``avatar``."""
    return min(MAX_SIDE[image_type], MAX_SIDE_OF_FORMAT.get(image_format, MAX_SIDE[image_type]))


def check(size: int, image_format: str | None, width: int | None, height: int | None, image_type: str) -> None:
    """Raise PictureFault where the platform could only refuse: ``size`` in bytes, ``width`` and ``height`` in pixels.

    ``image_format`` is told from the content; None where it is none that larkdrop knows.
    """
    if size == 0:
        raise codes.refuse(codes.EMPTY, "the file is empty")
    if size > MAX_BYTES:
        raise codes.refuse(codes.TOO_LARGE, f"the file has {size:,} bytes; Lark takes at most {MAX_BYTES:,}")
    if image_format not in FORMATS or width is None or height is None:
        named = f" ({image_format})" if image_format else ""
        raise codes.refuse(codes.UNKNOWN_FORMAT, f"this is not a supported image format{named}")
    side = max_side(image_format, image_type)
    if width > side or height > side:
        what = "avatars" if side == MAX_SIDE["avatar"] else image_format
        raise codes.refuse(
            codes.TOO_MANY_PIXELS, f"the picture has {width} × {height} pixels; Lark takes {what} up to {side} × {side}"
        )


def refused(fault: PictureFault, image_format: str | None) -> PictureFault:
    """The platform's refusal of a picture, in plainer words for a format that only Feishu accepts."""
    if fault.code != codes.UNKNOWN_FORMAT or image_format not in ONLY_FEISHU:
        return fault
    hint = "Save it as JPEG and drop it again."
    return PictureFault(f"this platform does not take {image_format}", hint=hint, code=fault.code, log_id=fault.log_id)
