"""What people would use instead, each as a process: ``python -m tests.bench.rivals NAME URL FOLDER``.

Prints seconds and CPU seconds from the first upload to the last; start-up is not counted.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 8


def bare(url: str) -> Callable[[Path], None]:
    """A pool with requests.Session and files=, doing nothing else."""
    import requests  # noqa: PLC0415

    local = threading.local()

    def upload(path: Path) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        with path.open("rb") as image:
            answer = local.session.post(
                f"{url}/open-apis/image/v4/put/", data={"image_type": "message"}, files={"image": image},
                headers={"Authorization": "Bearer t-bench"}, timeout=60,
            )  # fmt: skip
        assert answer.json()["data"]["image_key"]

    return upload


def sdk(url: str) -> Callable[[Path], None]:
    """The official SDK, as its documentation shows."""
    import lark_oapi  # noqa: PLC0415
    from lark_oapi.api.im.v1 import CreateImageRequest, CreateImageRequestBody  # noqa: PLC0415

    client = lark_oapi.Client.builder().app_id("cli_bench").app_secret("bench").domain(url).build()

    def upload(path: Path) -> None:
        with path.open("rb") as image:
            body = CreateImageRequestBody.builder().image_type("message").image(image).build()
            answer = client.im.v1.image.create(CreateImageRequest.builder().request_body(body).build())
        assert answer.data.image_key

    return upload


def main(name: str, url: str, folder: str) -> None:
    """Upload every file of a folder."""
    upload = {"bare": bare, "sdk": sdk}[name](url)
    paths = sorted(Path(folder).iterdir())
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(upload, paths))
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime]))


if __name__ == "__main__":
    main(*sys.argv[1:])
