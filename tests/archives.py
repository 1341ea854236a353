"""Archives of pages, written by warcio."""

import gzip
import json
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

HTML_TYPE = {"Content-Type": "text/html"}


class _Writer(WARCWriter):
    """Leaves no temporary file open."""

    _create_temp_file = staticmethod(BytesIO)


Response = tuple[str, Mapping[str, str], bytes]
"""A URL, HTTP headers (and `:status`), a body."""


def write_warc(path: Path, responses: Iterable[Response], *, warc: Mapping[str, str] = {}) -> Path:
    """Write responses, each after its request, gzipped by record if the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = _Writer(file, gzip=path.suffix == ".gz")
        writer.write_record(writer.create_warcinfo_record(path.name, {"software": "tests"}))
        for url, headers, body in responses:
            asked = StatusAndHeaders("GET / HTTP/1.1", [], is_http_request=True)
            writer.write_record(writer.create_warc_record(url, "request", http_headers=asked))
            fields = [(name, value) for name, value in headers.items() if name != ":status"]
            answer = StatusAndHeaders(headers.get(":status", "200 OK"), fields, "HTTP/1.1")
            writer.write_record(
                writer.create_warc_record(
                    url,
                    "response",
                    payload=BytesIO(body),
                    http_headers=answer,
                    warc_headers_dict=dict(warc),
                )
            )
    return path


def write_wat(path: Path, envelopes: Iterable[tuple[str, Any]]) -> Path:
    """Write metadata records, of bytes or of what JSON holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = _Writer(file, gzip=path.suffix == ".gz")
        for url, envelope in envelopes:
            content = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
            writer.write_record(
                writer.create_warc_record(
                    url,
                    "metadata",
                    payload=BytesIO(content),
                    warc_content_type="application/json",
                )
            )
    return path


def envelope(url: str, html: Any, status: str = "200") -> dict[str, Any]:
    """Return a WAT record as Common Crawl writes it, given its HTML-Metadata."""
    response: dict[str, Any] = {"Response-Message": {"Status": status}}
    if html is not None:
        response["HTML-Metadata"] = html
    return {
        "Container": {"Filename": "x.warc.gz"},
        "Envelope": {
            "WARC-Header-Metadata": {"WARC-Target-URI": url, "WARC-Type": "response"},
            "Payload-Metadata": {"HTTP-Response-Metadata": response},
        },
    }


def chunked(body: bytes, size: int = 100) -> bytes:
    """Return a body in chunked transfer coding."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def page(*images: tuple[str, str], more: str = "") -> bytes:
    """Return a page with images of these URLs and texts."""
    tags = "".join(f'<p><img src="{url}" alt="{text}">' for url, text in images)
    return f"<!doctype html><html lang=en><title>t</title>{tags}{more}".encode()


def gzipped(body: bytes) -> bytes:
    """Return a body that gzip compressed."""
    return gzip.compress(body, mtime=0)
