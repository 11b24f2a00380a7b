"""The client against the sandbox, over real HTTP."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from requests.adapters import HTTPAdapter

from larkdrop.config.settings import Lark
from larkdrop.errors import ApiOffline, CallFault, LarkdropError, MomentFault, PictureFault, SetupFault, Throttled
from larkdrop.lark import transport
from larkdrop.lark.client import Client, Token
from larkdrop.sandbox.server import Sandbox
from tests.helpers import picture, wait_until


def client(lark: Sandbox, **changes: Any) -> Client:
    """A client of the sandbox."""
    settings = {
        "base_url": lark.url,
        "app_id": lark.app_id,
        "app_secret": lark.app_secret,
        "read_timeout": 0.5,
        "connect_timeout": 600,
    } | changes
    return Client(Lark(**settings))


FAULTS: list[tuple[str, type[LarkdropError], int | None]] = [
    ("server_error", MomentFault, None), ("html", MomentFault, None), ("bad_json", MomentFault, None),
    ("internal", MomentFault, 5000), ("reset_before", MomentFault, None), ("reset_after", MomentFault, None),
    ("cut", MomentFault, None), ("hang", MomentFault, None), ("throttle", Throttled, 99991400),
    ("bot_off", SetupFault, 234007), ("scope_missing", SetupFault, 99991672), ("app_disabled", SetupFault, 99991662),
    ("quota_used_up", SetupFault, 99991403), ("down", MomentFault, None), ("refused", CallFault, 234001),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "kind", "code"), FAULTS)
@pytest.mark.parametrize("api", ["image/v4", "im/v1"])
def test_each_fault_is_told_by_its_kind(
    lark: Sandbox, api: str, fault: str, kind: type[LarkdropError], code: int | None
) -> None:
    """One boundary translates them all, with code, log id and cause."""
    mine = client(lark, api=api)
    mine.sign_in()
    lark.faults.set({fault: True if isinstance(getattr(lark.faults, fault), bool) else 1.0})
    with pytest.raises(LarkdropError) as caught:
        mine.upload(picture(1), "message")
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert (caught.value.log_id != "") == (code is not None)
    assert caught.value.__cause__ is not None or code is not None or fault in {"server_error", "html", "bad_json"}


def test_refused_pictures(lark: Sandbox) -> None:
    """What the platform says of a picture is the picture's fault."""
    for content, code in ((b"words", 234011), (b"", 234010)):
        with pytest.raises(PictureFault) as caught:
            client(lark).upload(content, "message")
        assert caught.value.code == code


def test_the_throttles_wait_is_kept(lark: Sandbox) -> None:
    """Exactly the seconds of x-ogw-ratelimit-reset."""
    lark.faults.per_minute = 1
    mine = client(lark)
    mine.upload(picture(1), "message")
    with pytest.raises(Throttled) as caught:
        mine.upload(picture(1), "message")
    assert 55 <= caught.value.retry_after <= 60


def test_a_refused_token_is_renewed_once_for_all(lark: Sandbox) -> None:
    """Eight workers notice at once: one renewal, and every picture goes."""
    mine = client(lark)
    mine.sign_in()
    lark.revoke()
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda n: mine.upload(picture(n), "message").image_key, range(8)))
    assert len(set(keys)) == 8
    assert lark.calls["token"] == 2


def test_a_token_refused_right_after_its_renewal_is_the_set_ups(lark: Sandbox) -> None:
    """A platform that gives tokens which it then refuses."""
    mine = client(lark)
    lark.faults.token_lifetime = 0.0
    with pytest.raises(SetupFault, match="refused again right after it was renewed"):
        mine.upload(picture(1), "message")
    assert lark.calls["upload"] == 2


def test_a_fixed_token_that_is_refused_is_the_set_ups(lark: Sandbox) -> None:
    """There is nothing to renew it with."""
    mine = client(lark, app_id="", app_secret="", tenant_access_token="t-dead")
    with pytest.raises(SetupFault, match="lives for 2 hours"):
        mine.upload(picture(1), "message")
    assert lark.calls["upload"] == 1
    assert lark.calls["token"] == 0


def test_a_token_is_renewed_ahead_of_its_end_without_stopping_uploads(lark: Sandbox) -> None:
    """10 minutes before it ends; where that fails, the old one is used on."""
    now = [0.0]
    settings = Lark(base_url=lark.url, app_id=lark.app_id, app_secret=lark.app_secret)
    mine = Client(settings, clock=lambda: now[0])
    mine.upload(picture(1), "message")
    now[0] = 6599.0
    mine.upload(picture(2), "message")
    assert lark.calls["token"] == 1
    now[0] = 6601.0
    mine.upload(picture(3), "message")
    assert lark.calls["token"] == 2
    lark.app_secret = "changed"
    now[0] = 2 * 6601.0
    with pytest.raises(SetupFault):
        mine.upload(picture(4), "message")


def test_short_tokens_are_renewed_at_half_their_life(lark: Sandbox) -> None:
    """So that they never die on the way."""
    now = [0.0]
    lark.faults.token_lifetime = 60
    mine = Client(Lark(base_url=lark.url, app_id=lark.app_id, app_secret=lark.app_secret), clock=lambda: now[0])
    mine.sign_in()
    now[0] = 29
    mine.sign_in()
    assert lark.calls["token"] == 1
    now[0] = 31
    mine.sign_in()
    assert lark.calls["token"] == 2


@pytest.mark.parametrize("field", ["app_id", "app_secret"])
def test_wrong_credentials_say_what_to_do(lark: Sandbox, field: str) -> None:
    """A set-up fault with the page to look at, and without the secret."""
    with pytest.raises(SetupFault) as caught:
        client(lark, **{field: "wrong-and-secret"}).sign_in()
    assert "Credentials page" in caught.value.hint
    assert "wrong-and-secret" not in str(caught.value) + repr(caught.value)


@pytest.fixture
def raw() -> Iterator[tuple[int, list[bytes], list[bytes]]]:
    """A server that keeps what comes, and answers with what it was given: port, requests, answers."""
    asked: list[bytes] = []
    answers: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                while answers:
                    text = _one_request(connection)
                    if not text:
                        break
                    asked.append(text)
                    connection.sendall(answers.pop(0))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1], asked, answers
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def _one_request(connection: socket.socket) -> bytes:
    text = b""
    while b"\r\n\r\n" not in text:
        if not (more := connection.recv(65536)):
            return text
        text += more
    head, _, body = text.partition(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")).split()[1])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    """An HTTP answer."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), headers, body)


def token_client(port: int) -> Client:
    """A client with a fixed token."""
    return Client(Lark(base_url=f"http://127.0.0.1:{port}", tenant_access_token="t-1"))


def test_the_request_on_the_wire(raw: tuple[int, list[bytes], list[bytes]]) -> None:
    """ASCII filename and Content-Type in the image part, Content-Length, one connection for all."""
    port, asked, answers = raw
    answers += [answer(b'{"code":0,"data":{"image_key":"k"}}')] * 3
    mine = token_client(port)
    content = picture(1)
    for _ in range(3):
        assert mine.upload(content, "avatar").image_key == "k"
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /open-apis/image/v4/put/ HTTP/1.1")
    assert b"Authorization: Bearer t-1" in head
    assert b"Transfer-Encoding" not in head
    assert b'name="image"; filename="image.jpg"\r\nContent-Type: application/octet-stream\r\n\r\n' + content in body
    assert b'name="image_type"\r\n\r\navatar\r\n' in body
    assert len(asked) == 3


def test_no_redirect_is_followed(raw: tuple[int, list[bytes], list[bytes]]) -> None:
    """The token never goes to another host: it is the set-up's fault."""
    port, asked, answers = raw
    answers.append(answer(b"", b"302 Found", b"Location: http://127.0.0.1:1/steal\r\n"))
    with pytest.raises(SetupFault, match="HTTP 302"):
        token_client(port).upload(picture(1), "message")
    assert len(asked) == 1


ODD = [b"null", b"[]", b'"0"', b'{"code":"0"}', b'{"code":null}', b'{"code":0}', b'{"code":0,"data":{"image_key":""}}',
       b'{"code":0,"data":[]}', b"{" * 3000, b"\xff\xfe", b'{"code":0,"data":{"image_key":7}}']  # fmt: skip


@pytest.mark.parametrize("body", ODD)
def test_odd_answers_are_the_moments(raw: tuple[int, list[bytes], list[bytes]], body: bytes) -> None:
    """Whatever stands in the body."""
    port, _, answers = raw
    answers.append(answer(body))
    with pytest.raises(MomentFault):
        token_client(port).upload(picture(1), "message")


WAITS = [
    (b"7", 7.0),
    (b"0.5", 0.5),
    (b"Wed, 21 Oct 2015 07:28:00 GMT", 1.0),
    (b"nan", 1.0),
    (b"inf", 1.0),
    (b"-3", 1.0),
]


@pytest.mark.parametrize(("wait", "seconds"), WAITS)
def test_a_wait_is_kept_and_an_odd_one_counts_as_a_second(
    raw: tuple[int, list[bytes], list[bytes]], wait: bytes, seconds: float
) -> None:
    """Retry-After as it is given; nothing hangs on a header."""
    port, _, answers = raw
    answers.append(answer(b'{"code":99991400,"msg":""}', b"429 Too Many", b"Retry-After: " + wait + b"\r\n"))
    with pytest.raises(Throttled) as caught:
        token_client(port).upload(picture(1), "message")
    assert caught.value.retry_after == seconds


LOG_IDS = [
    (b"X-Tt-Logid: a\r\nX-Request-Id: b\r\n", {"error": {"log_id": "c"}, "log_id": "d"}, "a"),
    (b"X-Request-Id: b\r\n", {"error": {"log_id": "c"}, "log_id": "d"}, "b"),
    (b"", {"error": {"log_id": "c"}, "log_id": "d"}, "c"),
    (b"", {"error": "none", "log_id": "d"}, "d"),
    (b"", {"log_id": "two\nlines"}, ""),
    (b"", {"error": {"log_id": 7}}, ""),
]


@pytest.mark.parametrize(("headers", "more", "log_id"), LOG_IDS)
def test_the_log_id_wherever_it_stands(
    raw: tuple[int, list[bytes], list[bytes]], headers: bytes, more: dict[str, Any], log_id: str
) -> None:
    """Header before body, in the order of the official clients; of refusals and of successes."""
    port, _, answers = raw
    answers.append(answer(json.dumps({"code": 5000, **more}).encode(), headers=headers))
    answers.append(answer(json.dumps({"code": 0, "data": {"image_key": "k"}, **more}).encode(), headers=headers))
    mine = token_client(port)
    with pytest.raises(MomentFault) as caught:
        mine.upload(picture(1), "message")
    assert caught.value.log_id == log_id
    assert mine.upload(picture(1), "message").log_id == log_id


def test_a_missing_scope_is_named_with_its_link(lark: Sandbox) -> None:
    """As the platform names it in its answer."""
    lark.faults.scope_missing = True
    with pytest.raises(SetupFault) as caught:
        client(lark).upload(picture(1), "message")
    assert "im:resource or im:resource:upload at https://open.feishu.cn/app/cli_sandbox/auth?q=" in caught.value.hint


@pytest.mark.parametrize("violations", [7, [7], [{}], [{"subject": 7}], [{"subject": "im:x\nRun this"}]])
def test_odd_violations_are_passed_over(raw: tuple[int, list[bytes], list[bytes]], violations: object) -> None:
    """The hint then names what is needed."""
    port, _, answers = raw
    body = {"code": 99991672, "msg": "no", "error": {"permission_violations": violations}}
    answers.append(answer(json.dumps(body).encode(), b"400 Bad Request"))
    with pytest.raises(SetupFault) as caught:
        token_client(port).upload(picture(1), "message")
    assert caught.value.hint == "Grant the app im:resource or im:resource:upload and publish a version."


OFFLINE = [
    answer(b'{"code":30005,"msg":"offline"}'),
    answer(b'{"code":99991201,"msg":"offline"}', b"404 Not Found"),
    answer(b"<html>404</html>", b"404 Not Found"),
]


@pytest.mark.parametrize("said", OFFLINE)
def test_an_api_that_is_offline(raw: tuple[int, list[bytes], list[bytes]], said: bytes) -> None:
    """However the platform says so: one sentence with the setting."""
    port, _, answers = raw
    answers.append(said)
    with pytest.raises(ApiOffline) as caught:
        token_client(port).upload(picture(1), "message")
    assert caught.value.hint.startswith('Set api = "im/v1" in [lark]')


def test_a_refused_connection() -> None:
    """Nobody listens: the moment's fault."""
    with Sandbox() as gone:
        port = gone.port
    with pytest.raises(MomentFault, match="ConnectionRefusedError"):
        token_client(port).upload(picture(1), "message")


@contextmanager
def serving(converse: Callable[[socket.socket], object], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server of one connection, through which it speaks as it is told until the client closes it: its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)

        def serve() -> None:
            connection, _ = listener.accept()
            with suppress(OSError):
                connection.settimeout(20)
                with tls.wrap_socket(connection, server_side=True) if tls else connection as spoken:
                    converse(spoken)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def trickle(connection: socket.socket, beginning: bytes) -> None:
    """The beginning of an answer, and then a byte now and then until the client closes the connection, as it must."""
    _one_request(connection)
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


def test_the_longest_upload_is_known() -> None:
    """Connecting, sending and receiving; and with a token of our own, that one twice, and everything once more."""
    times = {"connect_timeout": 10, "read_timeout": 60}
    fixed = Client(Lark(tenant_access_token="t-1", **times)).longest_upload
    assert 10 + 160 + 60 <= fixed < 231
    assert 2 * (2 * 70 + fixed) <= Client(Lark(app_id="a", app_secret="b", **times)).longest_upload < 2 * (141 + fixed)


def test_who_waits_for_another_threads_token_does_not_wait_forever() -> None:
    """While Lark doesn't answer, one call for a token follows the other, but no worker waits for all of them."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        mine = Client(Lark(base_url=url, app_id="a", app_secret="b", connect_timeout=0.3, read_timeout=0.3))

        def upload(number: int) -> str:
            with pytest.raises(MomentFault) as caught:
                mine.upload(picture(number), "message")
            return str(caught.value)

        with ThreadPoolExecutor(6) as pool:
            said = set(pool.map(upload, range(6)))
    assert said == {"no answer from Lark within read_timeout", "another call for a token is still not answered"}


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


def test_tokens_do_not_show() -> None:
    """Not even where somebody prints one."""
    assert "t-secret" not in repr(Token("t-secret", 0, 0))


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
    assert mine.reach().seconds > 0
    assert mine.proxy == url.partition("@")[2]
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
    assert "pip install 'larkdrop[socks]'" in done.stdout
    assert "word" not in done.stdout + done.stderr
