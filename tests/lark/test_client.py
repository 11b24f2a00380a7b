"""The client over real HTTP: every answer by whose fault it tells of, tokens, and the request as it is sent."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from larkdrop.config.settings import Lark
from larkdrop.errors import ApiOffline, CallFault, LarkdropError, MomentFault, PictureFault, SetupFault, Throttled
from larkdrop.lark.client import Client, Token
from larkdrop.sandbox.server import Sandbox
from tests.helpers import picture
from tests.lark.wire import answer, token_client


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
    assert caught.value.of_upload


def test_a_throttled_call_for_a_token_is_marked(raw: tuple[int, list[bytes], list[bytes]]) -> None:
    """It says nothing of the limit of uploads."""
    port, _, answers = raw
    answers.append(answer(b'{"code":99991400,"msg":""}', b"429 Too Many"))
    with pytest.raises(Throttled) as caught:
        Client(Lark(base_url=f"http://127.0.0.1:{port}", app_id="cli_x", app_secret="s")).sign_in()
    assert not caught.value.of_upload


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


def test_a_page_of_somebody_elses_in_place_of_a_token_stops_no_upload(
    lark: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a captive portal, while the token is still good."""
    now = [0.0]
    mine = Client(Lark(base_url=lark.url, app_id=lark.app_id, app_secret=lark.app_secret), clock=lambda: now[0])
    mine.upload(picture(1), "message")

    def portal() -> Token:
        raise SetupFault("the answer is no JSON of Lark's (HTTP 302)")

    monkeypatch.setattr(mine, "_fetch_token", portal)
    now[0] = 6601.0
    mine.upload(picture(2), "message")
    now[0] = 7201.0
    with pytest.raises(SetupFault):
        mine.upload(picture(3), "message")


def test_short_tokens_are_renewed_at_half_their_life(lark: Sandbox) -> None:
    """So that they never die on the way."""
    now = [0.0]
    lark.faults.token_lifetime = 60
    mine = Client(Lark(base_url=lark.url, app_id=lark.app_id, app_secret=lark.app_secret), clock=lambda: now[0])
    assert mine.sign_in()
    now[0] = 29
    assert not mine.sign_in(), "nobody was asked"
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
    (b"0", 1.0),
    (b"0.001", 1.0),
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


def test_tokens_do_not_show() -> None:
    """Not even where somebody prints one."""
    assert "t-secret" not in repr(Token("t-secret", 0, 0))
