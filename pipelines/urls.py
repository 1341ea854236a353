"""Which URLs of a list are asked for at all."""

import re

from yarl import URL

_PORTS = (80, 443)
"""Of those below 1024, which belong to services; the others are no web server's."""
_HOST = re.compile(r"[a-z0-9_.-]{1,253}|[0-9a-f:.]+", re.ASCII)
"""A name in its ASCII form, or an address; yarl lets more pass."""
_LONGEST = 8192
"""What common servers take of a request's first line."""


class UnusableError(ValueError):
    """A URL that nobody is asked for; its text is the failure that is counted."""


def read_url(text: str | None) -> URL:
    """Read a URL as it stands in a list; the host is in its ASCII form then.

    Raises:
        UnusableError: There is none, it is not for HTTP, or it is made for something else than to
            fetch an image.
    """
    if not (text and text.strip()):
        raise UnusableError("url_missing")
    return _checked(_parsed(text.strip()))


def follow(url: URL, location: str) -> URL:
    """Return where a redirect leads; see `read_url`.

    Raises:
        UnusableError: Nowhere that may be asked.
    """
    return _checked(url.join(_parsed(location)))


def _parsed(text: str) -> URL:
    if len(text) > _LONGEST:
        raise UnusableError("url_invalid")
    try:
        return URL(text)
    except Exception:  # on hostile text yarl 1.25 raises more than ValueError
        raise UnusableError("url_invalid") from None


def _checked(url: URL) -> URL:
    if url.scheme not in ("http", "https"):
        raise UnusableError("url_scheme" if url.scheme else "url_invalid")
    if not _HOST.fullmatch(url.raw_host or ""):
        raise UnusableError("url_invalid")
    if url.raw_user is not None or url.raw_password is not None:
        raise UnusableError("url_credentials")
    port = url.port or 0
    if port < 1024 and port not in _PORTS:
        raise UnusableError("url_port")
    return url
