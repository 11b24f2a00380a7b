"""What the platform takes, checked before a call is spent.

Source: the page *Upload image* (im/v1; Lark's of June 2024, Feishu's of July 2026): at most 10 MB, never empty, seven
formats on Lark and HEIC too on Feishu, limits of resolution.
"""

from __future__ import annotations

from larkdrop.errors import PictureFault
from larkdrop.lark import codes

MAX_BYTES = 10 * 1024 * 1024
FORMATS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "ICO", "HEIC"})
# Of these, what only Feishu takes: whoever the platform is says so itself.
ONLY_FEISHU = frozenset({"HEIC"})
MAX_SIDE = {"GIF": 2000}
MAX_SIDE_OF_AVATARS = 4096
MAX_SIDE_OF_OTHERS = 12_000


def max_side(form: str, image_type: str) -> int:
    """The most pixels of each side of a picture of that format, uploaded as that type."""
    of_type = MAX_SIDE_OF_AVATARS if image_type == "avatar" else MAX_SIDE_OF_OTHERS
    return min(of_type, MAX_SIDE.get(form, of_type))


def check(size: int, form: str | None, width: int | None, height: int | None, image_type: str) -> None:
    """Raise PictureFault where the platform could only say no: ``size`` in bytes, ``width`` and ``height`` in pixels.

    ``form`` is the format as told by the content, or None where that is no format that larkdrop knows.
    """
    if size == 0:
        raise codes.refuse(codes.EMPTY, "the file is empty")
    if size > MAX_BYTES:
        raise codes.refuse(codes.TOO_LARGE, f"the file has {size:,} bytes; Lark takes at most {MAX_BYTES:,}")
    if form not in FORMATS or width is None or height is None:
        named = f" ({form})" if form else ""
        raise codes.refuse(codes.UNKNOWN_FORMAT, f"this is not a supported image format{named}")
    side = max_side(form, image_type)
    if width > side or height > side:
        what = "avatars" if image_type == "avatar" else form
        raise codes.refuse(
            codes.TOO_MANY_PIXELS, f"the picture has {width} × {height} pixels; Lark takes {what} up to {side} × {side}"
        )


def refused(fault: PictureFault, form: str | None) -> PictureFault:
    """The platform's refusal of a picture, in plainer words where it is of a format that only some platforms take."""
    if fault.code != codes.UNKNOWN_FORMAT or form not in ONLY_FEISHU:
        return fault
    hint = "Save it as JPEG and drop it again."
    return PictureFault(f"this platform does not take {form}", hint=hint, code=fault.code, log_id=fault.log_id)
