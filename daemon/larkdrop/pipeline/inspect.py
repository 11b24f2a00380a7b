"""Can a picture become an upload at all? By the platform's rules, and by whether it is complete."""

from __future__ import annotations

from larkdrop.folder.picture import Picture
from larkdrop.folder.recognise import End
from larkdrop.lark import accepted_images, codes


def inspect(read: Picture, image_type: str) -> None:
    """Raise PictureFault where what was read can only be refused."""
    shape = read.shape
    if shape.end is End.CUT and 0 < read.stamp.size <= accepted_images.MAX_BYTES:
        raise codes.refuse(
            codes.UNKNOWN_FORMAT,
            f"the {shape.format or 'picture'} is incomplete: its end is missing",
            hint="Nothing to do if it is still being written: it will be taken when it is finished.",
        )
    accepted_images.check(read.stamp.size, shape.format, shape.width, shape.height, image_type)
