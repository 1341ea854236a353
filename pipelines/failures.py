"""Why there is no image at a URL, by names that are few and stay the same."""

import re
from mimetypes import MimeTypes
from ssl import SSLError

import aiohttp
from PIL import Image

from pipelines.addresses import AddressRefusedError
from recaption.pictures import FORMATS

PREFIX_BYTES = 512
"""By which a body is known; AVIF and WebP need 16, markup may begin with white space."""

_SHOWN = frozenset(Image.MIME[kind] for kind in FORMATS)
_TYPES = MimeTypes()  # Python's own, whatever the machine knows besides

_MARKUP = {
    b"<svg": "image/svg+xml",
    b"<html": "text/html",
    b"<!doctype html": "text/html",
    b"<?xml": "text/xml",
}

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""


class FetchFailedError(Exception):
    """There is no image; its text is the failure that is counted."""

    def __init__(self, failure: str, *, again: bool = False, unanswered: bool = False) -> None:
        super().__init__(failure)
        self.again = again
        """Another try may help."""
        self.unanswered = unanswered
        """The host did not answer, or told us to stay away."""


_ERRORS: tuple[tuple[type[Exception], str, bool, bool], ...] = (
    (TimeoutError, "timeout", True, True),
    (aiohttp.ClientConnectorDNSError, "host_unknown", False, True),
    (AddressRefusedError, "address_refused", False, False),
    (SSLError, "tls_failed", False, True),
    (aiohttp.ClientConnectorError, "connect_failed", True, True),
    (aiohttp.ClientPayloadError, "truncated", True, False),
    (aiohttp.ClientResponseError, "malformed_answer", False, False),
    (ValueError, "url_invalid", False, False),
    (OSError, "disconnected", True, False),
    (aiohttp.ClientConnectionError, "disconnected", True, False),
)
"""Errors, or what they came from, by the failure: whether another try may help, and whether the
host did not answer.  The first that fits counts."""


_TOO_LARGE = re.compile("Got more than|Too many headers")
"""What aiohttp says of headers beyond its bounds; its error is that of all malformed answers."""


def of_status(status: int, *, hopeless: bool) -> FetchFailedError:
    """Return what an answer other than 200 is; `hopeless`: no other try shall be made."""
    again = status in _AGAIN and not hopeless
    return FetchFailedError(f"http_{status}", again=again, unanswered=status == 429)


def of_error(error: Exception) -> FetchFailedError:
    """Return what an error of aiohttp, or of what is below it, is."""
    if isinstance(error, FetchFailedError):
        return error
    if isinstance(error, aiohttp.ClientResponseError) and _TOO_LARGE.search(error.message):
        return FetchFailedError("headers_too_large")
    below = getattr(error, "os_error", None), error.__cause__
    for kind, name, again, unanswered in _ERRORS:
        if any(isinstance(one, kind) for one in (error, *below)):
            return FetchFailedError(name, again=again, unanswered=unanswered)
    return FetchFailedError(f"error_{type(error).__name__}")


def check_image(prefix: bytes, declared: str) -> None:
    """Check that a body begins as an image that browsers show.

    What a server says it is does not count, but it names what is none.

    Args:
        prefix: The first `PREFIX_BYTES`, or the whole body.
        declared: The answer's content type.

    Raises:
        FetchFailedError: It is something else.
    """
    if not any(_begins(prefix, kind) for kind in FORMATS):
        raise FetchFailedError(f"not_an_image:{_kind(prefix, declared)}" if prefix else "empty")


def _begins(prefix: bytes, kind: str) -> bool:
    accepts = Image.OPEN[kind][1]
    return accepts is not None and bool(accepts(prefix[:16]))


def _kind(prefix: bytes, declared: str) -> str:
    """Return the media type, `unknown` if none that is known fits."""
    start = prefix.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for tag, kind in _MARKUP.items():
        if start.startswith(b"<") and tag in start:
            return kind
    kind = declared.partition(";")[0].strip().lower()
    return kind if _TYPES.guess_extension(kind) and kind not in _SHOWN else "unknown"
