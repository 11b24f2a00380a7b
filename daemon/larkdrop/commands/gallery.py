"""``larkdrop gallery``."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from larkdrop.commands.options import config_option
from larkdrop.config.load import load
from larkdrop.records.index import File, Index
from larkdrop.service.texts import counted, printable

PAGE = Path(__file__).with_name("gallery.html")
# Pixels of a thumbnail's longer side: twice what the page shows, for screens of two pixels a point; 2 to 10 kB.
SIDE = 320
# Pixels past which only a JPEG is opened, since only that can be decoded small.
LARGE = 40_000_000


@click.command(epilog="Example: larkdrop gallery --output gallery.html --open")
@config_option
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("gallery.html"), show_default=True,
    help="Where to write the page.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=5000, show_default=True, help="The newest ones, this many.")
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
def command(config_file: Path | None, output: Path, limit: int, *, open_it: bool) -> None:
    """Make one page of all uploaded images: browse, filter, sort, enlarge, copy keys.

    The page holds its thumbnails and keys itself: it can be mailed, and works without a network. Enlarged, a picture
    is read from where it is on this machine; on any other, its thumbnail is shown.
    """
    settings = load(config_file, signs_in=False)
    if watch := settings.watch_of(os.path.realpath(output)):
        raise click.BadParameter(f"must not lie in the watched folder {watch.path}.", param_hint="--output")
    with Index(settings.key_cache) as index:
        files = list(index.files(status="uploaded"))[-limit:][::-1]  # the newest first
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # LARGE is checked here
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        thumbs = track(
            pool.map(thumbnail, map(_place, files)), "pictures", len(files), transient=True,
            console=Console(stderr=True), disable=not sys.stderr.isatty(),
        )  # fmt: skip
        pictures = [_entry(file, thumb) for file, thumb in zip(files, thumbs, strict=True)]
    # "<" could end the script that holds the data.
    data = json.dumps(pictures).replace("<", "\\u003c")
    try:
        output.write_text(PAGE.read_text(encoding="utf-8").replace("@DATA@", data), encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(output), error.strerror or "") from error
    click.echo(f"{counted(len(pictures), 'picture')} in {printable(str(output))}")
    if open_it:
        click.launch(str(output.absolute()))


def _entry(file: File, thumb: str) -> dict[str, Any]:
    place = _place(file)
    return {
        "name": os.path.relpath(file.path, file.watch), "path": file.path, "at": file.at, "size": file.size,
        "key": file.image_key, "thumb": thumb, "original": Path(place).as_uri() if os.path.isfile(place) else "",
    }  # fmt: skip


def _place(file: File) -> str:
    """Where the picture is now; empty where it was deleted."""
    return file.path if file.place is None else file.place


def thumbnail(path: str) -> str:
    """A picture's thumbnail as a data URL; empty where the picture is gone or can't be drawn."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(file, "rb") as source, Image.open(source) as image:
            if image.width * image.height > LARGE and image.format != "JPEG":
                return ""
            image.draft("RGB", (SIDE, SIDE))
            image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
            upright = ImageOps.exif_transpose(image)
            out = io.BytesIO()
            upright.convert("RGBA" if upright.has_transparency_data else "RGB").save(out, "WEBP", quality=50, method=2)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
