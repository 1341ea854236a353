"""A server that captions: what it is asked, and whatever it answers."""

import base64
import email.utils
import io
import json
import socket
import threading
import time
from typing import Any

import pytest
from PIL import Image

from filters.rule import RecipeError
from recaption.captioner import Caption
from recaption.config import Decode, Server
from recaption.server import ServerCaptioner
from tests.recaption.drawings import drawing, encoded
from tests.recaption.servers import Act, Handler, Script, choice, says, sends, serving, tells

GOOD = says("a red square")
IMAGE = encoded(drawing(0))


def captioner(server: Script, decode: Decode | None = None, **settings: Any) -> ServerCaptioner:
    """Return one that has no patience."""
    patience = {"timeout_s": 0.3, "backoff_s": 0.001, "max_requests": 1, "attempts": 2}
    return ServerCaptioner(server.name, decode or Decode(), Server(**(patience | settings)))


def caption(server: Script, **settings: Any) -> Caption:
    """Return the caption of an image."""
    [[written]] = captioner(server, **settings).caption([IMAGE], ["1"])
    return written


def wait(seconds: float) -> Act:
    return lambda _: time.sleep(seconds)


def drip(body: bytes, pause_s: float) -> Act:
    """Answer a byte at a time, from the status line on."""

    def act(handler: Handler) -> None:
        for at in range(len(body)):
            handler.wfile.write(body[at : at + 1])
            time.sleep(pause_s)

    return act


def raw(body: bytes) -> Act:
    """Send these bytes, status line and all, and close the connection."""

    def act(handler: Handler) -> None:
        handler.wfile.write(body)
        handler.close_connection = True

    return act


def test_a_caption_comes_with_what_the_server_tells_of_it() -> None:
    tokens = [{"token": "a", "logprob": -0.5}, {"token": " dog", "logprob": -2}]
    told = choice("a dog", finish_reason="length", logprobs={"content": tokens})
    with serving(GOOD, tells({"choices": [told]}), says("a cat")) as server:
        [[first], [second]] = captioner(server).caption([IMAGE, IMAGE], ["1", "2"])

    assert first == Caption("a dog", 0, logprob=-2.5, tokens=2, finish="length")
    assert second == Caption("a cat", 0, tokens=7, finish="stop")


def test_the_server_is_asked_as_the_settings_say() -> None:
    decode = Decode(temperature=0.7, candidates=2, prompt="What is it?", repetition_penalty=1.1)
    with serving() as server:
        spec = captioner(server, decode, max_side_px=20).spec
        [asked] = server.requests

    [message] = asked.pop("messages")
    picture, prompt = message["content"]
    seed = asked.pop("seed")
    assert asked == {
        "path": "/v1/chat/completions",
        "model": "tiny/vlm",
        "n": 2,
        "max_tokens": 20,
        "min_tokens": 5,
        "temperature": 0.7,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "logprobs": True,
    }
    assert 0 <= seed < 2**31
    assert prompt == {"type": "text", "text": "What is it?"}
    kind, _, data = picture["image_url"]["url"].partition(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (kind, image.format, image.size) == ("data:image/jpeg;base64", "JPEG", (20, 20))
    assert spec["reported_model"] == "tiny/vlm-1"
    assert json.loads(json.dumps(spec)) == spec


def test_greedy_asks_for_the_likeliest_and_for_nothing_of_vllm_alone() -> None:
    with serving() as server:
        captioner(server, Decode(strategy="greedy", min_tokens=0))
        [asked] = server.requests

    assert asked["temperature"] == 0.0
    assert not {"top_p", "min_tokens", "repetition_penalty"} & asked.keys()


def test_the_seed_depends_on_the_key_alone() -> None:
    with serving() as server:
        backend = captioner(server)
        backend.caption([IMAGE, IMAGE], ["1", "2"])
        backend.caption([encoded(drawing(1))], ["2"])
        _, first, second, again = [request["seed"] for request in server.requests]

    assert first != second
    assert again == second


def test_requests_are_under_way_at_once_but_not_more_than_allowed() -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def count(handler: Handler) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.05)
        with lock:
            under_way -= 1
        GOOD(handler)

    with serving(GOOD, *[count] * 9) as server:
        written = captioner(server, max_requests=3, timeout_s=5).caption([IMAGE] * 9, ["1"] * 9)

    assert written == [[Caption("a red square", 0, tokens=7, finish="stop")]] * 9
    assert most == 3


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(status: int) -> None:
    with serving(GOOD, sends(b"busy", status)) as server:
        assert caption(server).text == "a red square"
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "requests"), [(500, 4), (429, 4), (400, 2), (404, 2), (302, 2), (204, 2)]
)
def test_a_status_that_stays_is_the_failure(status: int, requests: int) -> None:
    with serving(GOOD, *[sends(b"{}" if status != 204 else b"", status)] * 3) as server:
        assert caption(server, attempts=3) == Caption("", 0, failure=f"server_{status}")
        assert len(server.requests) == requests


@pytest.mark.parametrize("date", [False, True])
def test_a_server_that_says_when_to_come_back_is_heard(date: bool) -> None:
    value = email.utils.formatdate(time.time() + 60, usegmt=True) if date else "60"
    with serving(GOOD, sends(b"", 429, Retry_After=value)) as server:
        before = time.monotonic()
        assert caption(server, max_wait_s=0.2).text == "a red square"

    assert 0.2 <= time.monotonic() - before < 10


@pytest.mark.parametrize("value", ["soon", "-5", "²", "9" * 400, "Wed, 99 Foo 2026"])
def test_a_wait_that_makes_no_sense_harms_nothing(value: str) -> None:
    with serving(GOOD, sends(b"", 503, Retry_After=value)) as server:
        assert caption(server, max_wait_s=0.01).text == "a red square"


@pytest.mark.parametrize(
    "act",
    [
        wait(1),
        drip(b"HTTP/1.0 200 OK\r\nContent-Length: 30\r\n\r\n" + b" " * 30, 0.1),
        drip(b"HTTP/1.0 200 OK\r\n\r\n" + b" " * 30, 0.1),
    ],
    ids=["silence", "slow drip", "slow drip of unknown length"],
)
def test_an_answer_that_is_not_whole_in_time_is_a_timeout(act: Act) -> None:
    with serving(GOOD, act, act) as server:
        before = time.monotonic()
        assert caption(server) == Caption("", 0, failure="timeout")

    assert time.monotonic() - before < 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x00\xff" * 50,
        b"HTTP/1.0 200 OK\r\nX: " + b"x" * 70_000,
    ],
    ids=["closes", "breaks off", "bad chunk", "not HTTP", "endless header"],
)
def test_a_connection_that_breaks_is_tried_again_and_told(body: bytes) -> None:
    with serving(GOOD, raw(body), GOOD, raw(body), raw(body)) as server:
        backend = captioner(server, timeout_s=5)

        [[first], [second]] = backend.caption([IMAGE, IMAGE], ["1", "2"])

    assert first.text == "a red square"
    assert second == Caption("", 0, failure="unreachable")


def test_a_server_that_goes_down_ends_nothing() -> None:
    with serving() as server:
        backend = captioner(server)

    written = backend.caption([IMAGE, IMAGE], ["1", "2"])

    assert written == [[Caption("", 0, failure="unreachable")]] * 2


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b"", "malformed"),
        (b'{"choices": [{"message": {"con', "malformed"),
        (b'{"choices": [{"message": {"content": "\xff\xfe dog"}}]}', "malformed"),
        (b"[" * 100_000, "malformed"),
        (b" " * (2**23 + 1), "malformed"),
        (b"[]", "malformed"),
        (b"null", "malformed"),
        (b'{"choices": null}', "malformed"),
        (b'{"choices": {"0": 1}}', "malformed"),
        (b'{"choices": "abc"}', "malformed"),
        (b'{"choices": [null]}', "malformed"),
        (b'{"choices": [{"message": "a dog"}]}', "malformed"),
        (b'{"choices": [{"message": {"content": 7}}]}', "malformed"),
        (b'{"choices": [{"message": {"content": [{"text": "a dog"}]}}]}', "malformed"),
        (b'{"choices": []}', "empty"),
        (b'{"choices": [{"message": {"content": null}}]}', "empty"),
        (b'{"choices": [{"message": {"content": ""}}]}', "empty"),
        (b'{"choices": [{"message": {"content": null, "refusal": "I cannot"}}]}', "refused"),
        (b'{"choices": [{"message": {}, "finish_reason": "content_filter"}]}', "refused"),
    ],
)
def test_an_answer_without_a_caption_is_named(body: bytes, failure: str) -> None:
    with serving(GOOD, sends(body)) as server:
        assert caption(server, timeout_s=5) == Caption("", 0, failure=failure)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "more",
    [
        {"logprobs": {"content": None}},
        {"logprobs": {"content": []}},
        {"logprobs": [1]},
        {"logprobs": {"content": [{"logprob": "low"}]}},
        {"logprobs": {"content": [{"logprob": 10**400}]}},
        {"finish_reason": ["stop"]},
        {"finish_reason": "abort"},
    ],
)
def test_what_is_told_beside_a_caption_may_be_wrong(more: dict[str, Any]) -> None:
    answer = {"choices": [choice("a dog", **{"finish_reason": None, **more})], "usage": [3]}
    with serving(GOOD, tells(answer)) as server:
        assert caption(server) == Caption("a dog", 0)


def test_a_logprob_that_is_no_number_is_none() -> None:
    told = choice("a dog", logprobs={"content": [{"logprob": float("nan")}]})
    with serving(GOOD, tells({"choices": [told]})) as server:
        assert caption(server) == Caption("a dog", 0, tokens=1, finish="stop")


def test_candidates_are_draws_and_none_is_missing_or_too_much() -> None:
    fewer, more = says("a dog", 7), says("a dog", "a cat", "a cow", "a pig")
    with serving(GOOD, fewer, more, sends(b"[]")) as server:
        written = captioner(server, Decode(candidates=3)).caption([IMAGE] * 3, ["1", "2", "3"])

    assert [[(c.text, c.draw, c.failure) for c in captions] for captions in written] == [
        [("a dog", 0, None), ("", 1, "malformed"), ("", 2, "empty")],
        [("a dog", 0, None), ("a cat", 1, None), ("a cow", 2, None)],
        [("", 0, "malformed"), ("", 1, "malformed"), ("", 2, "malformed")],
    ]


def test_an_image_that_cannot_be_read_is_not_sent() -> None:
    with serving() as server:
        [[written], [_]] = captioner(server).caption([IMAGE[:60], IMAGE], ["1", "2"])
        assert len(server.requests) == 2

    assert written == Caption("", 0, failure="undecodable")


def test_a_server_that_is_down_is_told_before_any_work() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]

    with pytest.raises(RecipeError, match=r"got unreachable from openai:.*: .*; start the server"):
        ServerCaptioner(f"openai:http://127.0.0.1:{port}/v1#m", Decode(), Server(backoff_s=0.0))


def test_a_server_that_cannot_do_as_asked_is_told_in_its_words() -> None:
    error = {"message": "At most 0 images\nmay be provided", "type": "BadRequestError"}
    with (
        serving(tells({"error": error}, 400)) as server,
        pytest.raises(RecipeError, match=r"got server_400 from .*: At most 0 images may be pro"),
    ):
        captioner(server)


def test_a_server_of_another_kind_is_refused() -> None:
    with (
        serving(sends(b"<html>hello</html>")) as server,
        pytest.raises(RecipeError, match=r"got malformed from .*: <html>hello</html>; start"),
    ):
        captioner(server)


def test_the_key_is_sent_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", " sk-secret\n")
    told = tells({"error": {"message": "Incorrect API key: sk-secret"}}, 401)
    with serving(GOOD, told) as server:
        spec = captioner(server, api_key_env="MY_KEY").spec
        with pytest.raises(RecipeError, match=r"Incorrect API key: \*\*\*") as error:
            captioner(server, api_key_env="MY_KEY")

    assert server.keys == ["Bearer sk-secret"] * 2
    assert "secret" not in json.dumps(spec) + str(error.value)


@pytest.mark.parametrize("key", ["", "sk-\x00secret", "sk-sécret"])
def test_a_key_that_cannot_be_sent_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"MY_KEY": key})

    with pytest.raises(RecipeError, match="MY_KEY") as error:
        ServerCaptioner("openai:http://h/v1#m", Decode(), Server(api_key_env="MY_KEY"))

    assert "cret" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "openai:",
        "openai:http://h/v1",
        "openai:http://h/v1#",
        "openai:h:8000/v1#m",
        "openai:ftp://h/v1#m",
        "openai:http://#m",
        "openai:http://h:port/v1#m",
        "openai:http://h:99999/v1#m",
        "openai:http://[h/v1#m",
        "openai:http://h/v 1#m",
        "openai:http://h/v1?key=1#m",
    ],
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"^captioner must be like openai:http.*correct it"):
        ServerCaptioner(name, Decode(), Server())


def test_a_password_in_a_name_is_refused_and_not_repeated() -> None:
    with pytest.raises(RecipeError, match="one for h with a user") as error:
        ServerCaptioner("openai:http://me:secret@h/v1#m", Decode(), Server())

    assert "secret" not in str(error.value)


def test_beams_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"decode\.strategy must be nucleus or greedy"):
        ServerCaptioner("openai:http://h/v1#m", Decode(strategy="beam"), Server())


@pytest.mark.parametrize(
    "name", ["max_requests", "timeout_s", "attempts", "backoff_s", "max_wait_s", "max_side_px"]
)
def test_settings_that_cannot_be_are_refused(name: str) -> None:
    settings: dict[str, Any] = {name: -1}

    with pytest.raises(RecipeError, match=rf"server\.{name} must be .*, got -1; correct it"):
        Server(**settings)
