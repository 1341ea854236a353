"""A server that speaks OpenAI's protocol, or misbehaves as it is told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.serving import running

Act = Callable[["Handler"], None]
"""What the server does with one request."""


class Handler(BaseHTTPRequestHandler):
    """Answers requests by the script; what comes after its end is answered well."""

    server: "Script"

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        request = json.loads(self.rfile.read(size))
        with self.server.lock:
            self.server.requests.append({"path": self.path, **request})
            self.server.keys.append(self.headers.get("Authorization"))
            act = self.server.acts.pop(0) if self.server.acts else says("a red square")
        try:
            act(self)
        except OSError:  # the client has gone
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name there
        """Say nothing."""


class Script(ThreadingHTTPServer):
    """Holds what is done next, and what was asked."""

    daemon_threads = True

    def __init__(self, acts: list[Act]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.acts, self.lock = acts, threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def name(self) -> str:
        """The captioner's."""
        return f"openai:http://127.0.0.1:{self.server_port}/v1#tiny/vlm"


@contextmanager
def serving(*acts: Act) -> Iterator[Script]:
    """Run a server that does one act for each request, in turn."""
    with running(Script(list(acts))) as server:
        yield server


def sends(body: bytes, status: int = 200, **headers: str) -> Act:
    """Answer with these bytes."""

    def act(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return act


def tells(value: Any, status: int = 200, **headers: str) -> Act:
    """Answer with JSON."""
    return sends(json.dumps(value).encode(), status, **headers)


def choice(text: Any, **more: Any) -> dict[str, Any]:
    """Return one of the choices of an answer."""
    message = {"role": "assistant", "content": text}
    return {"index": 0, "message": message, "finish_reason": "stop", **more}


def says(*texts: Any) -> Act:
    """Answer with captions, as a server should."""
    choices = [choice(text) for text in texts]
    usage = {"prompt_tokens": 300, "completion_tokens": 7}
    return tells({"model": "tiny/vlm-1", "choices": choices, "usage": usage})
