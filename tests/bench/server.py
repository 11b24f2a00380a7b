"""A lean Lark in a process of its own, so that the server is not what is measured.

It reads an upload to its end, looks at nothing but its length, and answers with a new key.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

TOKEN = b'{"code":0,"msg":"ok","tenant_access_token":"t-bench","expire":7200}'
ANSWER = b'{"code":0,"data":{"image_key":"img_v3_%08d"},"msg":"success"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-Tt-Logid: bench\r\n\r\n"
made = 0


class Lark(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(1024 * 1024))
        self._head = b""
        self._left = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        if self._left:
            self._left -= count
            if self._left <= 0:
                self._answer()
            return
        self._head += self._buffer[:count]
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._head[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if b"expect: 100-continue" in head and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._left = length - (len(self._head) - end - 4)
        self._head = head
        if self._left <= 0:
            self._answer()

    def _answer(self) -> None:
        global made  # noqa: PLW0603 - the process is the counter
        if b"/auth/" in self._head[:200]:
            body = TOKEN
        else:
            made += 1
            body = ANSWER % made
        self._head, self._left = b"", 0
        if self._transport:
            self._transport.write(HEAD % len(body) + body)


async def serve() -> None:
    """Say the port, and serve until killed."""
    server = await asyncio.get_running_loop().create_server(Lark, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Server:
    """The server's process; a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.server"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def limit(self, picture: Path, count: int) -> float:
        """Uploads a second that ``curl`` reaches with 8 connections, of a picture sent ``count`` times."""
        url = f"{self.url}/open-apis/image/v4/put"
        config = picture.with_suffix(".curl")
        entry = f'url = "{url}"\nform = "image_type=message"\nform = "image=@{picture}"\noutput = "/dev/null"\n'
        config.write_text("next\n".join([entry] * count))
        words = ["curl", "-sS", "-Z", "--parallel-max", "8", "-w", "%{time_total}\n", "-K", str(config)]
        began = time.monotonic()
        subprocess.run(words, check=True, capture_output=True)
        return count / (time.monotonic() - began)


if __name__ == "__main__":
    asyncio.run(serve())
