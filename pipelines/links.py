"""The URLs that an `<img>` names: which is the picture's, and where it leads.

URLs are parsed and resolved by `ada`, the parser of the WHATWG's URL Standard that Node.js has;
so host names are in the form that is asked for in DNS, and a look-alike begins with `xn--`.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from ada_url import join_url

MAX_URL_CHARACTERS = 8000
"""What RFC 9110, section 4.1, asks of every server to understand."""

LAZY = ("data-src", "data-original", "data-lazy-src", "data-original-src")
LAZY_SETS = ("data-srcset", "data-lazy-srcset")
"""Where scripts that load images late keep what belongs in `src` and `srcset`."""

_CANDIDATE = re.compile(r"[\t\n\f\r ,]*([^\t\n\f\r ]+)([^,(]*(?:\([^)]*\)?[^,(]*)*),?")
_DESCRIPTOR = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)([wx])", re.IGNORECASE)
_SPACES = "\t\n\f\r "
_BEFORE_SCHEME = re.compile(r"[\0-\x20]*([A-Za-z][A-Za-z0-9+.\-\t\n\r]*):")
_NAMED_SCHEMES = {"data", "javascript"}


class LinkError(ValueError):
    """No image can be fetched there; the message is the kind of link."""


def candidates(img: Mapping[str, str], sources: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Yield where an image may be, with the attribute that says so, the best first.

    A `src` beside a late one is a placeholder, and so it comes after that; of a set the largest
    comes first.

    Args:
        img: The attributes of the `<img>`.
        sources: The `srcset` of each `<source>` of its `<picture>`.
    """
    for name in (*LAZY, *LAZY_SETS, "src", "srcset"):
        value = img.get(name)
        link = largest(value) if value and name.endswith("srcset") else value
        if link and link.strip(_SPACES):
            yield name, link
    for link in map(largest, sources):
        if link:
            yield "picture", link


def largest(srcset: str) -> str:
    """Return the URL of a `srcset` with the largest width or density; empty if it has none.

    https://html.spec.whatwg.org/multipage/images.html#parsing-a-srcset-attribute
    """
    best, best_size = "", -1.0
    at = 0
    while len(srcset) <= MAX_URL_CHARACTERS * 8 and (found := _CANDIDATE.match(srcset, at)):
        url, at = found[1], found.end()
        size = 1.0
        if url.endswith(","):
            at = found.end(1)
            url = url.rstrip(",")
        elif described := _DESCRIPTOR.search(found[2]):
            size = float(described[1])
        if size > best_size:
            best, best_size = url, size
    return best


def resolve(link: str, base: str | None) -> str:
    """Return the absolute http or https URL of a link, without its fragment.

    Args:
        link: As it is in the page.
        base: An absolute URL; None if the page's own is not known.

    Raises:
        LinkError: It is none.
    """
    scheme = _scheme(link)
    if scheme not in {"http", "https", ""}:
        raise LinkError(f"url_{scheme}" if scheme in _NAMED_SCHEMES else "url_other_scheme")
    if len(link) > MAX_URL_CHARACTERS:
        raise LinkError("url_too_long")
    if base is None and not scheme:
        raise LinkError("url_without_base")
    try:
        url = join_url(base or "about:blank", link).partition("#")[0]
    except (ValueError, UnicodeError):
        raise LinkError("url_invalid") from None
    if not url.startswith(("http://", "https://")):
        raise LinkError("url_other_scheme")  # relative to a page that is no web page
    return url


def base_of(page_url: str | None, href: str | None) -> str | None:
    """Return what a page's links are relative to: its `<base>`, or else its own URL."""
    for link in (href, page_url):
        if link:
            try:
                return resolve(link, page_url)
            except LinkError:
                continue
    return None


def is_idn(url: str) -> bool:
    """Say whether a URL's host has letters beyond ASCII, or those that look so."""
    return "xn--" in url and "xn--" in (urlsplit(url).hostname or "")


def _scheme(link: str) -> str:
    """Return a link's scheme in lower case; empty if it is relative."""
    found = _BEFORE_SCHEME.match(link)
    return re.sub(r"[\t\n\r]", "", found[1]).lower() if found else ""
