"""Read the pages of a crawl: WARC, WAT, and HTML files, each gzipped or not.

Whatever is wrong with a page or an archive is said by a kind, and reading goes on where it can.
"""

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import brotli
from fastwarc.warc import ArchiveIterator, WarcRecordType

from pipelines.charset import charset_in, decode
from pipelines.img_tags import Found, PageError, images_in_html, images_in_links

MAX_PAGE_BYTES = 5 << 20
"""Longer pages are cut here, as Common Crawl cuts them."""
MAX_RECORD_BYTES = 16 << 20
"""More of a record, of WAT the links of a page, is not read."""

_HTML_TYPES = {"text/html", "application/xhtml+xml"}
_TYPES = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.metadata
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 16


@dataclass(slots=True)
class Page:
    """A page that was read."""

    found: Found
    encoding: str = ""
    told_by: str = ""
    """How the encoding is known; empty where the page was not read as bytes."""
    cut: bool = False
    """The page goes on, but not in the crawl, or not within what is read of one."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that cannot be read any further, or at all."""

    what: str


Outcome = Page | PageError | Damage


def read_html(path: Path, page_url: str | None) -> Outcome:
    """Read a file of HTML."""
    try:
        with path.open("rb") as file:
            body = file.read(MAX_PAGE_BYTES + 1)
    except OSError as error:
        return Damage(f"{type(error).__name__}: {error.strerror}")
    try:
        if body.startswith(_GZIP):
            body = _inflate(body)
        return _page(body, page_url)
    except PageError as error:
        return error


def read_archive(path: Path) -> Iterator[Outcome]:
    """Read the pages of a WARC or WAT file; a `Damage`, if there is one, is the last."""
    last = 0
    try:
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=_TYPES, auto_decode="none"):
                last = record.stream_pos
                page = _read_record(record)
                if page:
                    yield page
            if not _is_whole(file, last):
                yield Damage("it ends within a record")
    except OSError as error:
        yield Damage(str(error))


def _read_record(record: Any) -> Page | PageError | None:
    """Read a page; None if the record is of something else."""
    if record.record_type != WarcRecordType.metadata:
        read: Callable[[Any, bytes], Page | None] = _read_response
    elif (record.headers.get("Content-Type") or "").startswith("application/json"):
        read = _read_links
    else:
        return None
    try:
        return read(record, record.reader.read(MAX_RECORD_BYTES + 1))
    except PageError as error:
        return error


def _is_whole(file: BinaryIO, last: int) -> bool:
    """Say whether an archive ends where its last record, or one after that, does.

    The iterator does not tell: a truncated record is to it a short one.
    """
    file.seek(0)
    head = file.read(4)
    if head.startswith(_GZIP):
        file.seek(last)
        file.seek(last if file.read(2) == _GZIP else 0)  # not every record is one of its own
        with suppress(EOFError, OSError, zlib.error), gzip.GzipFile(fileobj=file) as content:
            while content.read(_CHUNK):
                pass
            return True
        return False
    if head != b"WARC":
        return True
    file.seek(-4, os.SEEK_END)
    return file.read() == b"\r\n\r\n"


def _read_response(record: Any, body: bytes) -> Page:
    """Read the page of a response, or of a resource, which has no HTTP header."""
    http = record.http_headers
    if http is not None and not 200 <= (http.status_code or 0) < 300:
        raise PageError("status_not_2xx")
    headers = {name.lower(): value for name, value in http or ()}
    kind = _content_type(record, headers)
    if kind and kind not in _HTML_TYPES:
        raise PageError("not_html")
    short = len(body) < record.content_length
    cut = short or bool(record.headers.get("WARC-Truncated"))
    body = _undo_codings(body, headers)
    if not kind and not _is_markup(body):
        raise PageError("not_html")
    url = (record.headers.get("WARC-Target-URI") or "").strip("<>") or None
    charset = charset_in(headers.get("content-type", "").encode("latin1", "replace"))
    page = _page(body, url, charset, headers.get("content-language", ""))
    page.cut |= cut
    return page


def _content_type(record: Any, headers: dict[str, str]) -> str:
    """Return the type that a record declares, without parameters; empty if it declares none."""
    ours = "Content-Type" if record.http_headers is None else "WARC-Identified-Payload-Type"
    declared = headers.get("content-type") or record.headers.get(ours) or ""
    return str(declared).partition(";")[0].strip().lower()


def _read_links(_: Any, content: bytes) -> Page | None:
    """Read what a WAT record has of a page; None if it is of a request or of the crawl."""
    if len(content) > MAX_RECORD_BYTES:
        raise PageError("too_large")
    try:
        envelope = json.loads(content)["Envelope"]
        response = envelope["Payload-Metadata"].get("HTTP-Response-Metadata")
        if response is None:
            return None
        html = response.get("HTML-Metadata")
        if html is None:
            raise PageError("not_html")
        status = response.get("Response-Message", {}).get("Status")
        if status is not None and not str(status).startswith("2"):
            raise PageError("status_not_2xx")
        url = envelope["WARC-Header-Metadata"].get("WARC-Target-URI")
        links = [link for link in html.get("Links", ()) if isinstance(link, dict)]
        return Page(images_in_links(links, url, html.get("Head") or {}))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise error if isinstance(error, PageError) else PageError("not_json") from None


def _page(body: bytes, url: str | None, charset: str = "", language: str = "") -> Page:
    decoded = decode(body[:MAX_PAGE_BYTES], charset)
    found = images_in_html(decoded.html, url, language or "")
    return Page(found, decoded.encoding, decoded.told_by, cut=len(body) > MAX_PAGE_BYTES)


def _undo_codings(body: bytes, headers: dict[str, str]) -> bytes:
    """Undo the transfer and content codings of a body; those it only claims are none."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _unchunk(body)
    for coding in reversed(headers.get("content-encoding", "").lower().split(",")):
        name = coding.strip()
        if name in {"gzip", "x-gzip", "deflate"}:
            body = _inflate(body)
        elif name == "br":
            body = _unbrotli(body)
        elif name not in {"", "identity"} and not _is_markup(body):
            raise PageError("unknown_coding")
    return body


def _unchunk(body: bytes) -> bytes:
    """Undo chunked transfer coding, which a crawler may have undone; as far as it goes."""
    parts: list[bytes] = []
    at = 0
    while (end := body.find(b"\r\n", at, at + 64)) >= 0:
        try:
            size = int(body[at:end].partition(b";")[0], 16)
        except ValueError:
            break
        if size <= 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts) or body


def _is_markup(body: bytes) -> bool:
    return body[:_CHUNK].lstrip()[:1] == b"<"


def _inflate(body: bytes) -> bytes:
    """Decompress gzip or deflate, up to the bound and as far as it goes."""
    if _is_markup(body):
        return body  # a crawler has decompressed it
    for window in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):
        inflated = _inflated(zlib.decompressobj(window).decompress, body)
        if inflated:
            return inflated
    raise PageError("coding_damaged")


def _inflated(decompress: Callable[[bytes, int], bytes], body: bytes) -> bytes:
    """Decompress piece by piece, so that what comes before a defect is not lost."""
    parts: list[bytes] = []
    left = MAX_PAGE_BYTES + 1
    for at in range(0, len(body), _CHUNK):
        try:
            parts.append(decompress(body[at : at + _CHUNK], left))
        except (zlib.error, brotli.error):
            break
        left -= len(parts[-1])
        if left <= 0:
            break
    return b"".join(parts)


def _unbrotli(body: bytes) -> bytes:
    if _is_markup(body):
        return body  # a crawler has decompressed it
    inflated = _inflated(brotli.Decompressor().process, body)
    if not inflated:
        raise PageError("coding_damaged")
    return inflated
