"""A web server on loopback that serves images well, or badly in all the ways that there are."""

import gzip
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from tests.serving import running

Act = Callable[["Handler"], None]
"""What the server does with a request."""

CHUNK = bytes(1 << 16)


class Handler(BaseHTTPRequestHandler):
    """Answers a request by its path."""

    protocol_version = "HTTP/1.1"
    server: "Web"

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.asked.append(self.path)
            self.server.asked_at.append(time.monotonic())
            self.server.agents.add(self.headers["User-Agent"])
        try:
            self.server.pages.get(self.path.partition("?")[0], status(404))(self)
        except OSError:  # the client has gone
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name there
        """Say nothing."""


class Web(ThreadingHTTPServer):
    """Holds what is at each path, and what was asked for."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, pages: Mapping[str, Act]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages, self.lock = dict(pages), threading.Lock()
        self.asked: list[str] = []
        self.asked_at: list[float] = []
        self.agents: set[str] = set()
        self.sent: dict[str, int] = {}
        self.at_once = self.most_at_once = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Return a page's address."""
        return f"http://{host}:{self.server_port}{path}"

    @property
    def times_asked(self) -> Counter[str]:
        """How often each path was asked for."""
        with self.lock:
            return Counter(self.asked)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone."""


@contextmanager
def serving(pages: Mapping[str, Act]) -> Iterator[Web]:
    """Run a server."""
    with running(Web(pages)) as server:
        yield server


def sends(body: bytes, code: int = 200, **headers: str) -> Act:
    """Answer with a body; underscores in the names of headers are hyphens."""
    told = {"Content_Type": "image/jpeg", "Content_Length": str(len(body))} | headers

    def act(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in told.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return act


def status(code: int, **headers: str) -> Act:
    """Answer with a status."""
    return sends(b"<html>sorry</html>", code, Content_Type="text/html", **headers)


def redirects(target: str, code: int = 302) -> Act:
    """Send the client elsewhere."""
    return status(code, Location=target)


def in_turn(*acts: Act) -> Act:
    """Do one act after the other, the last one ever after."""
    turns = count()

    def act(handler: Handler) -> None:
        acts[min(next(turns), len(acts) - 1)](handler)

    return act


def lingers(seconds: float, act: Act) -> Act:
    """Do an act after a while, and count how many are in that while at once."""

    def late(handler: Handler) -> None:
        web = handler.server
        with web.lock:
            web.at_once += 1
            web.most_at_once = max(web.most_at_once, web.at_once)
        time.sleep(seconds)
        with web.lock:
            web.at_once -= 1
        act(handler)

    return late


def waits(event: threading.Event, act: Act) -> Act:
    """Do an act once something has happened."""

    def late(handler: Handler) -> None:
        event.wait(60)
        act(handler)

    return late


def raw(answer: bytes) -> Act:
    """Answer with bytes that need not be HTTP, and hang up."""

    def act(handler: Handler) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    return act


def drips(body: bytes, seconds: float) -> Act:
    """Answer byte by byte, with a pause after each."""

    def act(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for byte in body:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(seconds)

    return act


def floods(start: bytes, size: int, *, declared: bool) -> Act:
    """Answer with far too much, which is told before or is not."""

    def act(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header(
            "Content-Length" if declared else "Connection", str(size) if declared else "close"
        )
        handler.end_headers()
        handler.close_connection = True
        sent = handler.wfile.write(start)
        with suppress(OSError):
            while sent < size:
                sent += handler.wfile.write(CHUNK)
        handler.server.sent[handler.path] = sent

    return act


def bomb(start: bytes, size: int) -> Act:
    """Answer with little that becomes much."""
    body = gzip.compress(start + bytes(size))
    return sends(body, Content_Encoding="gzip")
