"""Pages per second of CPU, beside the parsers that people use for the same."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import urljoin

from bs4 import BeautifulSoup, Tag
from fastwarc.warc import ArchiveIterator, WarcRecordType
from lxml import html
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

from pipelines.archives import Page, read_archive
from tests.archives import HTML_TYPE, write_warc
from tests.bench.usage import seconds

REAL_PAGES = Path(__file__).parents[3] / "shared" / "data" / "html"
REPEATS = 3
COPIES = 4
"""Of each page, in one archive."""

_URL = "https://docs.example/a/b.html"

Pairs = set[tuple[str, str]]
Tags = Iterator[tuple[str, str]]
"""The `src` and the `alt` of each `<img>`, empty if it has none."""


def measure_extraction(folder: Path) -> Iterator[str]:
    """Measure the pages of an archive; say what it took, and whether all find the same pairs."""
    if not REAL_PAGES.is_dir():
        yield f"needs {REAL_PAGES.parent.name}/{REAL_PAGES.name}"
        return
    bodies = [path.read_bytes() for path in sorted(REAL_PAGES.rglob("*.html"))] * COPIES
    archive = write_warc(folder / "a.warc.gz", [(_URL, HTML_TYPE, body) for body in bodies])
    ways: dict[str, Callable[[], Pairs]] = {
        "altmill: archive, encoding, pairs and around": lambda: _ours(archive),
        "FastWARC and a plain lxml loop": lambda: _plain(archive, _by_lxml),
        "FastWARC and BeautifulSoup on lxml": lambda: _plain(archive, _by_soup("lxml")),
        "FastWARC and BeautifulSoup, html.parser": lambda: _plain(archive, _by_soup("html.parser")),
        "warcio alone, no parser": lambda: _by_warcio(archive),
    }
    size = sum(map(len, bodies)) / len(bodies) / 1024
    yield f"\nReal pages: {len(bodies):,} of {size:.0f} KiB in one WARC, per second of CPU"
    pairs, first = _ours(archive), 0.0
    for name, way in ways.items():
        repeats = 1 if "Soup" in name else REPEATS
        taken, found = min(_timed(way) for _ in range(repeats))
        first = first or taken
        same = "the same pairs" if found in (pairs, set()) else "OTHER PAIRS"
        rate = f"{len(bodies) / taken:>10,.0f} pages"
        yield f"{name:<46}{rate}   ours is {taken / first:>5.1f}x  {same}"


def _timed(way: Callable[[], Pairs]) -> tuple[float, Pairs]:
    before = seconds()
    found = way()
    return (seconds() - before).cpu, found


def _ours(archive: Path) -> Pairs:
    pages = (outcome for outcome in read_archive(archive) if isinstance(outcome, Page))
    return {(image.url, image.text) for page in pages for image in page.found.images}


def _plain(archive: Path, parse: Callable[[bytes], Tags]) -> Pairs:
    pairs: Pairs = set()
    with archive.open("rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response):
            for src, alt in parse(record.reader.read()):
                text = " ".join(alt.split())
                if src and text:
                    pairs.add((urljoin(_URL, src), text))
    return pairs


def _by_lxml(body: bytes) -> Tags:
    for img in html.document_fromstring(body).iter("img"):
        yield img.get("src", ""), img.get("alt", "")


def _by_soup(parser: str) -> Callable[[bytes], Tags]:
    def parse(body: bytes) -> Tags:
        for img in BeautifulSoup(body, parser).find_all("img"):
            if isinstance(img, Tag):
                yield str(img.get("src") or ""), str(img.get("alt") or "")

    return parse


def _by_warcio(archive: Path) -> Pairs:
    for record in WarcioIterator(BytesIO(archive.read_bytes())):
        record.content_stream().read()
    return set()
