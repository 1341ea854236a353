"""Pages in archives and files: what is wrong with one is counted, and the others are read."""

import gzip
import os
import random
import subprocess
import sys
import zlib
from pathlib import Path

import brotli
import pytest

from pipelines.archives import MAX_PAGE_BYTES, Damage, Page, read_archive, read_html
from pipelines.img_tags import PageError
from tests.archives import (
    HTML_TYPE,
    chunked,
    envelope,
    gzipped,
    page,
    write_warc,
    write_wat,
)

URL = "https://a.example/b/c.html"
CAT = page(("cat.jpg", "a cat"))
PAIR = ("https://a.example/b/cat.jpg", "a cat")


def told(path: Path) -> list[object]:
    """Return, of each page, its pairs or what is wrong."""
    said: list[object] = []
    for outcome in read_archive(path):
        if isinstance(outcome, Page):
            images = outcome.found.images
            said += [(image.url, image.text) for image in images] or ["nothing"]
        else:
            said.append(str(outcome) if isinstance(outcome, PageError) else "damage")
    return said


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (HTML_TYPE, CAT),
        ({"content-type": "Application/XHTML+xml; charset=utf-8"}, CAT),
        ({}, b" \n" + CAT),
        (HTML_TYPE | {"Transfer-Encoding": "chunked"}, chunked(CAT)),
        (HTML_TYPE | {"Transfer-Encoding": "chunked"}, CAT),
        (HTML_TYPE | {"Transfer-Encoding": "chunked"}, chunked(CAT + b" " * 99)[:-60]),
        (HTML_TYPE | {"Content-Encoding": "gzip"}, gzipped(CAT)),
        (HTML_TYPE | {"Content-Encoding": "gzip"}, CAT),
        (HTML_TYPE | {"Content-Encoding": "gzip"}, gzipped(CAT + os.urandom(9000))[:-4000]),
        (HTML_TYPE | {"Content-Encoding": "deflate"}, zlib.compress(CAT)),
        (HTML_TYPE | {"Content-Encoding": "deflate"}, zlib.compress(CAT)[2:-4]),
        (HTML_TYPE | {"Content-Encoding": "br"}, brotli.compress(CAT)),
        (
            HTML_TYPE | {"Content-Encoding": "GZIP, br", "Transfer-Encoding": "Chunked"},
            chunked(brotli.compress(gzipped(CAT))),
        ),
        (HTML_TYPE | {"Content-Encoding": "utf-8"}, CAT),
        (HTML_TYPE | {"Content-Length": "7"}, CAT),
    ],
)
def test_a_response_is_read_however_it_is_coded(
    tmp_path: Path, name: str, headers: dict[str, str], body: bytes
) -> None:
    path = write_warc(tmp_path / name, [(URL, headers, body), (URL, HTML_TYPE, CAT)])

    assert told(path) == [PAIR, PAIR]


@pytest.mark.parametrize(
    ("headers", "body", "kind"),
    [
        ({"Content-Type": "image/jpeg"}, CAT, "not_html"),
        ({}, b"\xff\xd8\xff\xe0", "not_html"),
        (HTML_TYPE | {":status": "404 Not Found"}, CAT, "status_not_2xx"),
        (HTML_TYPE | {":status": "301 Moved"}, b"", "status_not_2xx"),
        (HTML_TYPE, b"", "empty"),
        (HTML_TYPE | {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08junk", "coding_damaged"),
        (HTML_TYPE | {"Content-Encoding": "br"}, b"\xff\xffjunk", "coding_damaged"),
        (HTML_TYPE | {"Content-Encoding": "zstd"}, b"(\xb5/\xfdjunk", "unknown_coding"),
    ],
)
def test_what_is_wrong_with_a_response_is_its_kind(
    tmp_path: Path, headers: dict[str, str], body: bytes, kind: str
) -> None:
    path = write_warc(tmp_path / "a.warc.gz", [(URL, headers, body), (URL, HTML_TYPE, CAT)])

    assert told(path) == [kind, PAIR]


def test_a_picture_that_is_declared_as_a_page_has_no_images(tmp_path: Path) -> None:
    path = write_warc(tmp_path / "a.warc", [(URL, HTML_TYPE, b"\xff\xd8\xff\xe0" + bytes(500))])

    assert told(path) in (["nothing"], ["empty"])


def test_the_header_says_encoding_and_language(tmp_path: Path) -> None:
    body = "<img src=x alt='ein Käse'><meta charset=utf-8>".encode("latin1")
    headers = {"Content-Type": 'text/html; charset="ISO-8859-1"', "Content-Language": "de"}
    path = write_warc(tmp_path / "a.warc", [(URL, headers, body)])

    (outcome,) = read_archive(path)

    assert isinstance(outcome, Page)
    assert (outcome.encoding, outcome.told_by) == ("windows-1252", "http")
    assert [(i.text, i.page_language) for i in outcome.found.images] == [("ein Käse", "de")]


def test_a_page_that_the_crawl_cut_is_read_and_noted(tmp_path: Path) -> None:
    cut = {"WARC-Truncated": "length"}
    path = write_warc(tmp_path / "a.warc", [(URL, HTML_TYPE, CAT)], warc=cut)

    (outcome,) = read_archive(path)

    assert isinstance(outcome, Page)
    assert outcome.cut
    assert len(outcome.found.images) == 1


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
@pytest.mark.parametrize("cut", range(1, 900, 50))
def test_a_truncated_archive_is_read_as_far_as_it_goes(tmp_path: Path, name: str, cut: int) -> None:
    path = write_warc(tmp_path / name, [(URL, HTML_TYPE, CAT)] * 9)

    path.write_bytes(path.read_bytes()[:-cut])

    said = told(path)
    pairs = said.count(PAIR)
    assert pairs >= 7
    assert said[-1] == "damage"
    assert {*said[pairs:]} <= {"damage", "empty", "not_html", "nothing", "status_not_2xx"}


def test_an_archive_that_is_one_gzip_stream_is_read(tmp_path: Path) -> None:
    plain = write_warc(tmp_path / "a.warc", [(URL, HTML_TYPE, CAT)] * 9).read_bytes()
    path = tmp_path / "b.warc.gz"

    path.write_bytes(gzip.compress(plain))
    assert told(path) == [PAIR] * 9
    path.write_bytes(gzip.compress(plain)[:-9])
    assert told(path)[-1] == "damage"


def test_a_damaged_archive_never_raises(tmp_path: Path) -> None:
    whole = write_warc(tmp_path / "a.warc.gz", [(URL, HTML_TYPE, CAT)] * 3).read_bytes()
    plain = write_warc(tmp_path / "a.warc", [(URL, HTML_TYPE, CAT)] * 3).read_bytes()
    chance = random.Random(0)
    for number in range(300):
        damaged = bytearray(whole if number % 2 else plain)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path = tmp_path / ("b.warc.gz" if number % 2 else "b.warc")
        path.write_bytes(damaged)

        assert len(told(path)) <= 4


@pytest.mark.parametrize("content", [b"no archive at all\n" * 99, b"\x1f\x8b", bytes(999)])
def test_what_is_no_archive_is_damage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(content)

    assert told(path) == ["damage"]


def test_wat_records_give_the_pairs_of_their_pages(tmp_path: Path) -> None:
    links = [{"path": "IMG@/src", "url": "cat.jpg", "alt": "a cat"}, 7]
    crawl = {"Envelope": {"Payload-Metadata": {"WARC-Info-Metadata": {}}}}
    path = write_wat(
        tmp_path / "a.warc.wat.gz",
        [
            (URL, crawl),
            (URL, envelope(URL, {"Links": links, "Head": {}})),
            (URL, envelope(URL, {"Links": links}, status="404")),
            (URL, envelope(URL, None)),
            (URL, b'{"Envelope": {"Payload'),
            (URL, b"[" * 100_000),
            (URL, b"\xff\xfe"),
            (URL, {"Envelope": []}),
            (URL, envelope(URL, {"Links": {"a": 1}, "Head": []})),
            (URL, envelope(URL, {"Links": links, "Head": None})),
        ],
    )

    said = told(path)

    assert said[:3] == [PAIR, "status_not_2xx", "not_html"]
    assert said[3:7] == ["not_json"] * 4
    assert said[-1] == PAIR


def test_wat_and_warc_of_the_same_pages_give_the_same_pairs(tmp_path: Path) -> None:
    images = [("cat.jpg", "a cat"), ("/dog.jpg", "a dog"), ("//c.example/x", " an ox "), ("y", "")]
    links = [{"path": "IMG@/src", "url": url, "alt": text} for url, text in images]
    html = {"Links": links, "Head": {"Base": "/i/", "Title": "t"}}
    body = page(*images, more="<base href=/i/>")

    wat = write_wat(tmp_path / "a.wat", [(URL, envelope(URL, html))])
    warc = write_warc(tmp_path / "a.warc", [(URL, HTML_TYPE, body)])

    assert told(wat) == told(warc)
    assert len(told(wat)) == 3


def test_html_files_are_read_gzipped_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(CAT)
    (tmp_path / "b.html.gz").write_bytes(gzip.compress(CAT))
    (tmp_path / "c.html.gz").write_bytes(gzip.compress(CAT)[:9])

    outcomes = [read_html(path, URL) for path in sorted(tmp_path.iterdir())]

    assert [type(outcome) for outcome in outcomes] == [Page, Page, PageError]
    assert isinstance(read_html(tmp_path / "none.html", URL), Damage)


def test_huge_pages_are_cut_and_take_bounded_memory(tmp_path: Path) -> None:
    """A line of 256 MB, a bomb that gzip made of 1 GB, one of brotli, and a million images."""
    line = b"<p><img src=x.jpg alt='a cat'>" + b"x" * (256 << 20)
    bomb = b"<p><img src=x.jpg alt='a cat'>" + bytes(1 << 20)
    inflator = zlib.compressobj(9, wbits=31)
    bombed = b"".join(inflator.compress(bomb) for _ in range(1024)) + inflator.flush()
    million = b"<img src=a.jpg alt='a cat'>" * 1_000_000
    brotlied = brotli.compress(bytes(64 << 20), quality=1)
    coded = HTML_TYPE | {"Content-Encoding": "gzip"}
    responses = [
        (URL, HTML_TYPE, line),
        (URL, coded, bombed),
        (URL, HTML_TYPE | {"Content-Encoding": "br"}, brotlied),
        (URL, HTML_TYPE, million),
        (URL, HTML_TYPE, CAT),
    ]
    path = write_warc(tmp_path / "a.warc.gz", responses)
    del line, million, responses

    code = f"""
import resource, sys
from pathlib import Path
from pipelines.archives import read_archive
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for outcome in read_archive(Path({str(path)!r})):
    print(outcome.cut, len(outcome.found.images), outcome.found.kinds.total())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    *lines, grown = done.stdout.splitlines()
    assert lines == [
        "True 1 0",
        "True 5 0",
        "True 0 0",
        f"True 10000 {MAX_PAGE_BYTES // 27 - 10_000}",
        "False 1 0",
    ]
    assert int(grown) < 300 << 10
