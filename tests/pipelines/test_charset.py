"""The encoding of a page, beside html5lib's and the web's own tables."""

import pytest
from html5lib._inputstream import HTMLBinaryInputStream
from hypothesis import given
from hypothesis import strategies as st

from pipelines.charset import PRESCAN_BYTES, decode, prescan

FRAGMENTS = (
    *(b"<meta charset=latin1>", b"<meta charset='UTF-8'>", b'<META CHARSET="koi8-r" >'),
    b"<meta http-equiv=Content-Type content='text/html; charset=shift_jis'>",
    b'<meta content="text/html; charset=big5" http-equiv="content-type">',
    b"<meta content='text/html; charset=big5'>",
    b"<meta charset=bogus>",
    b"<meta charset=utf-16>",
    *(b"<!--", b"-->", b"<!doctype html>", b"<?php", b"</p a=b>", b"</ >", b"<p a='>'>"),
    *(b" ", b"/", b">", b"=", b"'", b'"', b"charset=", b"charset", b"x", b"\n", b"<a b=c "),
    *(b"<meta/charset=gbk/>", b"<metax charset=gbk>", b"<p charset=gbk>"),
)


def by_html5lib(head: bytes) -> str:
    found = HTMLBinaryInputStream(head, useChardet=False).detectEncodingMeta()
    return found.name if found else ""


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join))
def test_a_declaration_is_found_where_html5lib_finds_it(head: bytes) -> None:
    head = head.replace(b"<!-->", b"<!-- >")[:PRESCAN_BYTES]  # html5lib lets it begin a comment

    assert prescan(head) == by_html5lib(head)


@pytest.mark.parametrize(
    ("body", "label", "encoding", "told_by", "text"),
    [
        (b"\xef\xbb\xbfcaf\xc3\xa9", "latin1", "utf-8", "bom", "café"),
        (b"\xff\xfe<\0", "utf-8", "utf-16le", "bom", "<"),
        (b"\xfe\xff\0<", "", "utf-16be", "bom", "<"),
        (b"<meta charset=koi8-r>\xe9", "ISO-8859-1", "windows-1252", "http", "é"),
        (b"<meta charset=koi8-r>\xc9", "bogus", "koi8-r", "meta", "и"),
        (b"<meta charset=iso-8859-1>\x93\x94", "", "windows-1252", "meta", "“”"),
        (b"<meta charset=utf-16>\xc3\xa9", "", "utf-8", "meta", "é"),
        (b"<meta charset=x-user-defined>\xe9", "", "windows-1252", "meta", "é"),
        (b"<?xml version='1.0' encoding='koi8-r'?>\xc9", "", "koi8-r", "meta", "и"),
        (b"<!--><<meta charset=koi8-r>\xc9", "", "koi8-r", "meta", "и"),
        (b"<\0?\0x\0m\0l\0", "", "utf-16le", "meta", "<?xml"),
        (b"caf\xc3\xa9", "", "utf-8", "bytes", "café"),
        (b"caf\xe9", "", "windows-1252", "nothing", "café"),
        (b"caf\xe9!", "utf-8", "utf-8", "http", "caf\ufffd!"),
        (b"\x82\xa0", "shift-jis", "shift_jis", "http", "あ"),
        (b"\xc4\xe3", "gb2312", "gbk", "http", "你"),
        (b" " * PRESCAN_BYTES + b"<meta charset=koi8-r>\xe9", "", "windows-1252", "nothing", "é"),
    ],
)
def test_the_standards_order_and_labels_are_kept(
    body: bytes, label: str, encoding: str, told_by: str, text: str
) -> None:
    decoded = decode(body, label)

    assert (decoded.encoding, decoded.told_by) == (encoding, told_by)
    assert decoded.html.decode().endswith(text)


@given(
    st.binary(max_size=300), st.sampled_from(["", "utf-16", "gbk", "iso-2022-jp", "replacement"])
)
def test_any_bytes_become_utf8(body: bytes, label: str) -> None:
    decode(body, label).html.decode()
