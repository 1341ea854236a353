"""Find the character encoding of a page as the HTML Standard does, and bring the page to UTF-8.

https://html.spec.whatwg.org/multipage/parsing.html#determining-the-character-encoding: a byte order
mark, then the HTTP header, then a `<meta>` or XML declaration within the first 1,024 bytes.  A page
that declares nothing is UTF-8 if its bytes are, else windows-1252, the Standard's suggestion for
most locales.  Labels are those of https://encoding.spec.whatwg.org, as `webencodings` has them.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import webencodings

PRESCAN_BYTES = 1024
"""Of the Standard."""

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16be"), (b"\xff\xfe", "utf-16le"))
_UTF16_XML = ((b"<\0?\0x\0", "utf-16le"), (b"\0<\0?\0x", "utf-16be"))
_CHARSET = re.compile(
    rb"""charset[\t\n\f\r ]*=[\t\n\f\r ]*(?:"([^"]*)"|'([^']*)'|["']|([^\t\n\f\r ;]*))""",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(
    rb"""[\t\n\f\r\x20/]*([^\t\n\f\r\x20/>][^\t\n\f\r\x20/>=]*)"""
    rb"""(?:[\t\n\f\r\x20]*=[\t\n\f\r\x20]*(?:"([^"]*)"|'([^']*)'|(?!["'])([^\t\n\f\r\x20>]*)))?"""
)
_TAG = re.compile(
    rb"<(?:(!--)|(meta)(?=[\t\n\f\r /])|(/?[a-z][^\t\n\f\r >]*)|[!/?])", re.IGNORECASE
)
_XML = re.compile(rb"""<\?xml[^>]*?encoding[\0-\x20]*=[\0-\x20]*(["'])([^"'\0-\x20>]*)\1[^>]*>""")


class Decoded(NamedTuple):
    """A page in UTF-8."""

    html: bytes
    encoding: str
    """Of the Encoding Standard."""
    told_by: str
    """`bom`, `http`, `meta`, `bytes` (they are UTF-8), or `nothing`."""


def decode(body: bytes, http_label: str = "") -> Decoded:
    """Bring a page to UTF-8; bytes that its encoding does not have become U+FFFD."""
    encoding, told_by = _declared(body, http_label)
    for mark, name in _BOMS:
        if told_by == "bom" and name == encoding:
            body = body[len(mark) :]
    if encoding in {"", "utf-8"}:
        try:
            body.decode()
        except UnicodeDecodeError:
            pass
        else:
            return Decoded(body, "utf-8", told_by if encoding else "bytes")
    encoding = encoding or "windows-1252"
    text = webencodings.lookup(encoding).codec_info.decode(body, "replace")[0]
    return Decoded(text.encode("utf-8", "replace"), encoding, told_by)


def _declared(body: bytes, http_label: str) -> tuple[str, str]:
    """Return the encoding that a page declares, and where; empty if it does not."""
    for mark, name in _BOMS:
        if body.startswith(mark):
            return name, "bom"
    declared = webencodings.lookup(http_label) if http_label else None
    if declared:
        return declared.name, "http"
    name = prescan(body[:PRESCAN_BYTES])
    return (name, "meta") if name else ("", "nothing")


def prescan(head: bytes) -> str:
    """Return the encoding that the beginning of a page declares; empty if it does not."""
    for mark, name in _UTF16_XML:
        if head.startswith(mark):
            return name
    if b"charset" in head.lower():  # most pages without a declaration end here
        for attributes in _metas(head):
            if name := _of_meta(attributes):
                return name
    xml = _XML.match(head)
    return _effective(xml[2].decode("latin1")) if xml else ""


def _metas(head: bytes) -> Iterator[dict[bytes, bytes]]:
    """Yield the attributes of each `<meta>`, past comments and other tags."""
    at = 0
    while found := _TAG.search(head, at):
        comment, meta, tag = found.groups()
        if meta or tag:
            attributes, at = _attributes(head, found.end())
            if meta:
                yield attributes
            continue
        closed = b"-->" if comment else b">"
        end = head.find(closed, found.start() + 2)  # the dashes of `<!-->` are those of its end
        if end < 0:
            return
        at = end + len(closed)


def _attributes(head: bytes, at: int) -> tuple[dict[bytes, bytes], int]:
    """Return a tag's attributes, the first of each name, and where they end."""
    attributes: dict[bytes, bytes] = {}
    while found := _ATTRIBUTE.match(head, at):
        name, *values = found.groups()
        value = next((value for value in values if value is not None), b"")
        attributes.setdefault(name.lower(), value.lower())
        at = found.end()
    return attributes, at


def _of_meta(attributes: dict[bytes, bytes]) -> str:
    if b"charset" in attributes:
        return _effective(attributes[b"charset"].decode("latin1"))
    if attributes.get(b"http-equiv") != b"content-type":
        return ""
    return _effective(charset_in(attributes.get(b"content", b"")))


def charset_in(content_type: bytes) -> str:
    """Return the label of an encoding in a content type; empty if there is none."""
    found = _CHARSET.search(content_type)
    return next(filter(None, found.groups()), b"").decode("latin1") if found else ""


def _effective(label: str) -> str:
    """Return the encoding of a label within a page, which cannot be UTF-16; empty if unknown."""
    encoding = webencodings.lookup(label)
    if encoding is None:
        return ""
    name = str(encoding.name)
    if name in {"utf-16le", "utf-16be"}:
        return "utf-8"
    return "windows-1252" if name == "x-user-defined" else name
