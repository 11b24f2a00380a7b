"""What the platform takes, checked before a call is spent.

Source: the page *Upload image* (im/v1): at most 10 MB, never empty, seven formats, limits of resolution.
"""

from __future__ import annotations

from larkdrop.lark import codes

MAX_BYTES = 10 * 1024 * 1024
MAX_SIDE = {"GIF": 2000}
MAX_SIDE_OF_OTHERS = 12_000


def check(size: int, form: str | None, width: int | None, height: int | None) -> None:
    """Raise PictureFault where the platform could only say no: ``size`` in bytes, ``width`` and ``height`` in pixels.

    ``form`` is the format as told by the content, or None where it is none of the seven.
    """
    if size == 0:
        raise codes.refuse(codes.EMPTY, "the file is empty")
    if size > MAX_BYTES:
        raise codes.refuse(codes.TOO_LARGE, f"the file has {size:,} bytes; Lark takes at most {MAX_BYTES:,}")
    if form is None or width is None or height is None:
        raise codes.refuse(codes.UNKNOWN_FORMAT, "the content is no picture of a format that Lark takes")
    side = MAX_SIDE.get(form, MAX_SIDE_OF_OTHERS)
    if width > side or height > side:
        raise codes.refuse(
            codes.TOO_MANY_PIXELS, f"the picture has {width} × {height} pixels; Lark takes {form} up to {side} × {side}"
        )
