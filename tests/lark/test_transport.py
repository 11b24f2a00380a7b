"""How Lark is reached: deadlines for calls that trickle or stand still, TLS, proxies, and no redirects."""

from __future__ import annotations

import os
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from requests.adapters import HTTPAdapter

from larkdrop.config.settings import Lark
from larkdrop.errors import LarkdropError, MomentFault, SetupFault
from larkdrop.lark import transport
from larkdrop.lark.client import Client
from larkdrop.sandbox.server import Sandbox
from tests.helpers import picture, wait_until
from tests.lark.wire import answer, one_request, serving, token_client


def test_no_redirect_is_followed(raw: tuple[int, list[bytes], list[bytes]]) -> None:
    """The token never goes to another host: it is the set-up's fault."""
    port, asked, answers = raw
    answers.append(answer(b"", b"302 Found", b"Location: http://127.0.0.1:1/steal\r\n"))
    with pytest.raises(SetupFault, match="HTTP 302"):
        token_client(port).upload(picture(1), "message")
    assert len(asked) == 1


def test_a_refused_connection() -> None:
    """Nobody listens: the moment's fault."""
    with Sandbox() as gone:
        port = gone.port
    with pytest.raises(MomentFault, match="ConnectionRefusedError"):
        token_client(port).upload(picture(1), "message")


def trickle(connection: socket.socket, beginning: bytes) -> None:
    """The beginning of an answer, and then a byte now and then until the client closes the connection, as it must."""
    one_request(connection)
    connection.sendall(beginning)
    for _ in range(200):
        connection.sendall(b"7")
        time.sleep(0.05)
    pytest.fail("nobody ended the call")


HEADERS = b"HTTP/1.1 200 OK\r\nX-Slow: "
ANSWERS = [
    b"H",
    HEADERS,
    b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n{",
    b"HTTP/1.0 200 OK\r\n\r\n{",
]


def hurried_client(url: str) -> Client:
    """A client with little time: a call with a small picture is ended after a second."""
    return Client(Lark(base_url=url, tenant_access_token="t-1", connect_timeout=0.5, read_timeout=0.5))


@pytest.mark.parametrize("beginning", ANSWERS)
def test_an_answer_that_trickles_ends_at_the_deadline(beginning: bytes) -> None:
    """In its status line, its headers or its body, although no single wait is as long as read_timeout."""
    with (
        serving(lambda connection: trickle(connection, beginning)) as port,
        pytest.raises(MomentFault, match=r"the call to Lark was not finished within 1 s, so its connection was closed"),
    ):
        hurried_client(f"http://127.0.0.1:{port}").upload(picture(1), "message")


def test_without_knowing_the_connection_a_body_that_trickles_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should urllib3 make its connections in another way one day, only headers that trickle have no deadline."""
    monkeypatch.setattr(transport._Line, "get_connection_with_tls_context", HTTPAdapter.get_connection_with_tls_context)
    with (
        serving(lambda connection: trickle(connection, ANSWERS[2])) as port,
        pytest.raises(MomentFault, match="not finished within"),
    ):
        hurried_client(f"http://127.0.0.1:{port}").upload(picture(1), "message")


def test_after_a_deadline_the_next_call_has_a_connection_of_its_own() -> None:
    """The same worker goes on at once."""
    with serving(lambda connection: trickle(connection, HEADERS)) as port:
        mine = hurried_client(f"http://127.0.0.1:{port}")
        with pytest.raises(MomentFault):
            mine.upload(picture(1), "message")
    with Sandbox(port), pytest.raises(SetupFault, match="is refused"):  # it answers: this token is none of its own
        mine.upload(picture(1), "message")


def test_a_slow_line_has_the_time_that_its_picture_needs() -> None:
    """10 MB to a receiver that takes longer for all of them than connect_timeout and read_timeout together."""
    got = bytearray()

    def read_slowly(connection: socket.socket) -> None:
        while len(got) < 10 * 1024 * 1024 and (more := connection.recv(65_536)):
            got.extend(more)
            time.sleep(0.01)
        connection.sendall(answer(b'{"code":0,"data":{"image_key":"k"}}', headers=b"Connection: close\r\n"))

    content = os.urandom(10 * 1024 * 1024 - 100)
    with serving(read_slowly) as port:
        assert hurried_client(f"http://127.0.0.1:{port}").upload(content, "message").image_key == "k"
    assert content in got


def test_a_receiver_that_stops_reading_is_the_moments() -> None:
    """The sentence says that it was the sending that came to a stop."""
    done = threading.Event()
    with serving(lambda _: done.wait(20)) as port:
        with pytest.raises(MomentFault, match="sending to Lark stood still for connect_timeout"):
            hurried_client(f"http://127.0.0.1:{port}").upload(bytes(10 * 1024 * 1024), "message")
        done.set()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for localhost that nobody vouches for: its file, and what a server does with it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


@pytest.mark.needs("openssl")
def test_tls_is_verified(certificate: tuple[Path, ssl.SSLContext]) -> None:
    """A certificate that nobody vouches for is the set-up's fault; no secret is sent."""
    got: list[bytes] = []
    with serving(lambda connection: got.append(connection.recv(100)), certificate[1]) as port:
        mine = Client(Lark(base_url=f"https://localhost:{port}", tenant_access_token="t-1"))
        with pytest.raises(SetupFault, match="certificate can't be verified"):
            mine.upload(picture(1), "message")
    assert got == []


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("beginning", [HEADERS, ANSWERS[2]])
def test_over_tls_too_an_answer_that_trickles_ends(
    certificate: tuple[Path, ssl.SSLContext], beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the certificates that REQUESTS_CA_BUNDLE names."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    with (
        serving(lambda connection: trickle(connection, beginning), certificate[1]) as port,
        pytest.raises(MomentFault, match="not finished within"),
    ):
        hurried_client(f"https://localhost:{port}").upload(picture(1), "message")


def test_proxies_from_the_environment_are_honoured(
    raw: tuple[int, list[bytes], list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call goes to the proxy, with the whole URL in its first line."""
    port, asked, answers = raw
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "")
    answers.append(answer(b'{"code":0,"data":{"image_key":"k"}}'))
    mine = Client(Lark(base_url="http://localhost:9", tenant_access_token="t-1"))
    assert mine.upload(picture(1), "message").image_key == "k"
    wait_until(lambda: asked)
    assert asked[0].startswith(b"POST http://localhost:9/open-apis/image/v4/put/ ")


@pytest.fixture
def socks_proxy() -> Iterator[tuple[str, list[bytes]]]:
    """A SOCKS5 proxy (RFC 1928) that asks for the user "me" and the password "word": its URL, and where it was sent."""
    asked: list[bytes] = []

    def forward(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            client: socket.socket = self.request
            client.recv(2 + client.recv(2, socket.MSG_PEEK)[1])
            client.sendall(b"\x05\x02")  # by user and password, RFC 1929
            if client.recv(64) != b"\x01\x02me\x04word":
                client.sendall(b"\x01\x01")
                return
            client.sendall(b"\x01\x00")
            request = client.recv(300)
            asked.append(request[5:-2])  # a name
            with socket.create_connection(("127.0.0.1", int.from_bytes(request[-2:], "big"))) as lark:
                client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
                back = threading.Thread(target=forward, args=(lark, client))
                back.start()
                forward(client, lark)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"socks5h://me:word@127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


def test_a_socks_proxy_is_used(
    lark: Sandbox, socks_proxy: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ALL_PROXY with socks5h: every call goes through it, and it is the proxy that finds the host."""
    url, asked = socks_proxy
    monkeypatch.setenv("ALL_PROXY", url)
    mine = Client(Lark(base_url=f"http://localhost:{lark.port}", app_id=lark.app_id, app_secret=lark.app_secret))
    assert mine.upload(picture(1), "message").image_key == lark.uploads[0].image_key
    assert mine.transport.reach()[0] > 0
    assert mine.transport.proxy == url.partition("@")[2]
    assert set(asked) == {b"localhost"}


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """By host and port, without its password."""
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:word@127.0.0.1:1")
    with pytest.raises(MomentFault) as caught:
        Client(Lark(base_url="https://open.feishu.cn", tenant_access_token="t-1")).upload(picture(1), "message")
    assert str(caught.value) == "the proxy 127.0.0.1:1 refuses connections"
    assert "ALL_PROXY" in caught.value.hint


def test_without_pysocks_it_says_what_to_install(tmp_path: Path) -> None:
    """A SOCKS proxy on a machine that lacks the package: held, with the command that helps."""
    blocked = "import sys; sys.modules['socks'] = None; from larkdrop.cli import main; main()"
    config, inbox = tmp_path / "config.toml", tmp_path / "inbox"
    inbox.mkdir()
    config.write_text(
        f'[lark]\napp_id = "cli_x"\napp_secret = "s"\n[[watch]]\npath = "inbox"\n[state]\ndir = "{tmp_path}/state"'
    )
    environment = {**os.environ, "ALL_PROXY": "socks5://me:word@127.0.0.1:1080"}
    words = [sys.executable, "-c", blocked, "check", "--config", str(config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 1
    assert "the proxy 127.0.0.1:1080 speaks SOCKS, for which the package PySocks is needed" in done.stdout
    assert "pip install '.[socks]'" in done.stdout
    assert "word" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (b"407 Proxy Authentication Required", SetupFault, "user and password"),
        (b"403 Forbidden", MomentFault, "HTTPS_PROXY"),
    ],
)
def test_a_proxy_that_opens_no_tunnel_says_why(
    monkeypatch: pytest.MonkeyPatch, status: bytes, kind: type[LarkdropError], words: str
) -> None:
    """Lark is reached by TLS, through a tunnel that the proxy has to open; what it says instead is told."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    with serving(refuse) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(kind) as caught:
            Client(Lark(base_url="https://open.feishu.cn", tenant_access_token="t-1")).upload(picture(1), "message")
    assert type(caught.value) is kind
    assert str(caught.value) == f"the proxy 127.0.0.1:{port} does not connect to Lark ({status.decode()})"
    assert words in caught.value.hint


def test_certificates_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable that a person has to correct."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(SetupFault, match=r"there is no /nowhere/ca\.pem") as caught:
        Client(Lark(base_url="https://127.0.0.1:9", tenant_access_token="t-1")).upload(picture(1), "message")
    assert "REQUESTS_CA_BUNDLE" in caught.value.hint
