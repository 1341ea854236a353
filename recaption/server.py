"""Ask an OpenAI-compatible server, such as vLLM's or SGLang's, for captions.

The standard library speaks HTTP here: one POST needs no more, and what else is installed differs
between versions of `huggingface_hub`.  Proxies of the environment are not used, nor are redirects
followed.
"""

import base64
import hashlib
import io
import json
import os
import random
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from typing import Any
from urllib.parse import SplitResult, urlsplit

import PIL
from PIL import Image

from filters.rule import RecipeError
from recaption.answers import read_captions, read_message, retry_after_s
from recaption.captioner import INSTRUCTION, Caption, failed
from recaption.config import Decode, Server
from recaption.pictures import read_rgb

_JPEG_QUALITY = 95
_MOST_BYTES = 2**23
"""Of an answer; a longer one is no caption."""
_AGAIN = (408, 429)
"""Statuses below 500 after which to ask again."""


class ServerCaptioner:
    """Captions from a model that a server runs.

    A request has one image and asks for all its candidates, with a seed made of `decode.seed` and
    the sample's key.  Whether the same seed gives the same caption is up to the server: those that
    batch do not promise it.  Log probabilities are the server's, by whatever it means by them.
    """

    def __init__(self, name: str, decode: Decode, server: Server) -> None:
        """Ask the server for the captions of a grey square, to see that it works.

        Args:
            name: `openai:URL#MODEL`, where `/chat/completions` follows the URL.
            decode: How captions are written; the prompt is the user's message.
            server: How the server is asked.

        Raises:
            RecipeError: The name, the key or a setting cannot be used, or the server does not
                answer as it must.
        """
        if decode.strategy == "beam":
            raise RecipeError(
                "decode.strategy must be nucleus or greedy where a server writes, got 'beam'; "
                "change it"
            )
        self._url, self._model = _parsed(name)
        self._decode, self._settings, self._key = decode, server, _key(server.api_key_env)
        reported = self._reported(name)
        self.spec: Mapping[str, Any] = {
            "captioner": name,
            "revision": None,
            "weights_sha256": None,
            "tokenizer_sha256": None,
            "reported_model": reported.get("model"),
            "reported_fingerprint": reported.get("system_fingerprint"),
            "decode": asdict(decode),
            "prompt": decode.prompt or INSTRUCTION,
            "preprocess": {
                "max_side_px": server.max_side_px,
                "resample": "lanczos",
                "format": f"jpeg, quality {_JPEG_QUALITY}",
            },
            "dtype": None,
            "device": None,
            "versions": {"pillow": PIL.__version__},
        }

    def caption(self, images: Sequence[bytes], keys: Sequence[str]) -> list[list[Caption]]:
        """As `Captioner.caption`; the more images, the less is waited for the slowest answer."""
        with ThreadPoolExecutor(self._settings.max_requests) as pool:
            return list(pool.map(self._caption, images, keys))

    def _caption(self, image: bytes, key: str) -> list[Caption]:
        count = self._decode.candidates
        try:
            body = self._body(read_rgb(image), key)
        except Exception:  # Pillow raises far more than OSError
            return failed("undecodable", count)
        try:
            return read_captions(self._insist(body), count)
        except _Failed as error:
            return failed(error.failure, count)

    def _reported(self, name: str) -> dict[str, Any]:
        """Return what the server says of the model, as plain values, once it has written."""
        try:
            answer = self._insist(self._body(Image.new("RGB", (224, 224), "grey"), ""))
        except _Failed as error:
            raise self._unusable(name, error.failure, error.told) from None
        if any(caption.failure == "malformed" for caption in read_captions(answer, 1)):
            raise self._unusable(name, "malformed", answer[:200].decode(errors="replace"))
        told = json.loads(answer)
        names = ("model", "system_fingerprint")
        return {name: told[name] for name in names if isinstance(told.get(name), str)}

    def _unusable(self, name: str, failure: str, told: str) -> RecipeError:
        """Repeat a server's own words, but not the key, which some put into them."""
        words = " ".join(told.split())
        shown = words.replace(self._key, "***") if self._key else words
        return RecipeError(
            f"captioner must be a server that captions images, got {failure} from {name}"
            f"{': ' if shown else ''}{shown}; start the server, or correct the name or the settings"
        )

    def _body(self, picture: Image.Image, key: str) -> bytes:
        """Return the request for an image's captions."""
        decode = self._decode
        content = [
            {"type": "image_url", "image_url": {"url": _url(picture, self._settings.max_side_px)}},
            {"type": "text", "text": decode.prompt or INSTRUCTION},
        ]
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "n": decode.candidates,
            "seed": _seed(decode.seed, key),
            "max_tokens": decode.max_tokens,
            "logprobs": True,
            "temperature": 0.0,
        }
        if decode.strategy == "nucleus":
            body |= {"temperature": decode.temperature, "top_p": decode.top_p}
        if decode.min_tokens:  # vLLM's and SGLang's own; others would refuse the name
            body["min_tokens"] = decode.min_tokens
        if decode.repetition_penalty != 1.0:
            body["repetition_penalty"] = decode.repetition_penalty
        return json.dumps(body).encode()

    def _insist(self, body: bytes) -> bytes:
        """Ask until there is an answer, or no more sense in asking."""
        attempt = 0
        while True:
            try:
                return self._ask(body)
            except _Failed as error:
                attempt += 1
                if not error.again or attempt == self._settings.attempts:
                    raise
                wait_s = self._settings.backoff_s * 2.0 ** (attempt - 1) * random.uniform(0.5, 1)
                time.sleep(min(max(wait_s, error.wait_s), self._settings.max_wait_s))

    def _ask(self, body: bytes) -> bytes:
        """Ask once; the answer is whole within the time, however slowly its bytes drip."""
        kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
        timeout_s = self._settings.timeout_s
        connection = kind(self._url.hostname or "", self._url.port, timeout=timeout_s)
        late = threading.Event()
        try:
            connection.connect()
            watch = threading.Timer(timeout_s, _hang_up, (connection.sock, late))
            watch.daemon = True
            watch.start()
            try:
                response, answer = self._exchange(connection, body)
            finally:
                watch.cancel()
        except TimeoutError:
            raise _Failed("timeout", again=True) from None
        except (OSError, HTTPException, UnicodeError) as error:
            failure = "timeout" if late.is_set() else "unreachable"
            raise _Failed(failure, str(error), again=True) from None
        finally:
            connection.close()
        if late.is_set():
            raise _Failed("timeout", again=True)
        return _accepted(response, answer)

    def _exchange(self, connection: HTTPConnection, body: bytes) -> tuple[HTTPResponse, bytes]:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        connection.request("POST", f"{self._url.path.rstrip('/')}/chat/completions", body, headers)
        response = connection.getresponse()
        answer = response.read(_MOST_BYTES + 1)
        if response.length and len(answer) <= _MOST_BYTES:  # bytes that were promised
            raise IncompleteRead(answer, response.length)
        return response, answer


class _Failed(Exception):  # noqa: N818  # it is no error of the program
    """There is no answer."""

    def __init__(
        self, failure: str, told: str = "", *, again: bool = False, wait_s: float = 0.0
    ) -> None:
        super().__init__(failure)
        self.failure, self.told, self.again, self.wait_s = failure, told, again, wait_s


def _parsed(name: str) -> tuple[SplitResult, str]:
    """Return the URL and the model of a captioner's name."""
    base, _, model = name.removeprefix("openai:").partition("#")
    try:
        url = urlsplit(base)
        port = url.port != 0
    except ValueError:
        url, port = urlsplit(""), False
    whole = url.scheme in ("http", "https") and url.hostname and port and model
    if not whole or url.username is not None or url.query or any(map(str.isspace, base)):
        shown = name if url.username is None else f"one for {url.hostname} with a user"
        raise RecipeError(
            f"captioner must be like openai:http://localhost:8000/v1#MODEL, got {shown}; correct "
            "it; a key goes into the variable that server.api_key_env names"
        )
    return url, model


def _key(variable: str) -> str:
    """Return the key that a variable of the environment holds."""
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not key:
        raise RecipeError(
            f"server.api_key_env must name a variable that holds the key, got {variable}, which is "
            "not set; export it"
        )
    if not (key.isascii() and key.isprintable()):
        raise RecipeError(
            f"the key in {variable} must be printable ASCII, got other characters; correct it"
        )
    return key


def _seed(seed: int, key: str) -> int:
    """Return a seed that every server takes: 31 bits without sign."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def _url(picture: Image.Image, max_side_px: int) -> str:
    """Return an image as the `data:` URL of a JPEG."""
    picture.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"


def _hang_up(sock: socket.socket, late: threading.Event) -> None:
    """End a connection that another thread waits for."""
    late.set()
    with suppress(OSError):  # it may have ended
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS's own would first undo itself


def _accepted(response: HTTPResponse, answer: bytes) -> bytes:
    """Return an answer of a server that did as asked."""
    if response.status != 200:
        again = response.status >= 500 or response.status in _AGAIN
        wait_s = retry_after_s(response.headers.get("Retry-After", ""))
        failure = f"server_{response.status}"
        raise _Failed(failure, read_message(answer), again=again, wait_s=wait_s)
    if len(answer) > _MOST_BYTES:
        raise _Failed("malformed", told=f"more than {_MOST_BYTES:,} bytes")
    return answer
