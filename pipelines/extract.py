"""Extract: the images of a crawl's pages that have an alt-text, each (url, text) once.

A part of the crawl, an archive or some HTML files, is read once, and its pairs are sent on by
their uids.  Of equal pairs the first of the crawl stays.  A partition is a file, and its pairs are
in the order of their uids, which is as good as random: so a download asks no host for all its
images at once.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.archives import Damage, Outcome, read_archive, read_html
from pipelines.crawl import REPORT, ExtractRun, Part
from pipelines.exchange import Send
from pipelines.extract_page import write_extract_page
from pipelines.img_tags import Image, PageError
from pipelines.manifest import code_version, environment, version_of
from pipelines.storage import parquet_writer
from pipelines.unchanged import file_digest
from recaption.files import write_json
from recaption.manifest import NAME, ManifestError

FORMAT = "extract-1"
PAIRS = pa.schema(
    [
        ("uid", pa.string()),
        ("url", pa.string()),
        ("text", pa.string()),
        ("page_url", pa.string()),
        ("page_title", pa.string()),
        ("page_language", pa.string()),
        ("title", pa.string()),
        ("figure_caption", pa.string()),
        ("text_around", pa.string()),
        ("declared_width", pa.int32()),
        ("declared_height", pa.int32()),
        ("source", pa.string()),
        ("occurrences", pa.int64()),
    ]
)
"""`<partition>.parquet`: the pairs of a crawl.

`uid` is the first 128 bits of SHA-256(url, NUL, text), in hex; `page_language` as the page declares
it; `title` the image's own; `text_around` the page's text before and after it, as far as the next
image with a text; `declared_width` and `declared_height` in CSS pixels, which is no measure of the
file; `source` the attribute with the URL.  Empty texts are null.  All but `url`, `text` and
`occurrences`, which counts equal pairs, are those of the first of the crawl.
"""

_SENT = PAIRS.remove(PAIRS.get_field_index("occurrences")).append(pa.field("order", pa.int64()))
_SENT_AT_ONCE = 65_536
_PARTS_BITS = 32
_ROWS_IN_GROUP = 65_536
_LIBRARIES = ("lxml", "fastwarc", "ada-url", "webencodings")


@dataclass(slots=True)
class _Account:
    """What was found in a part."""

    pages: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)
    pairs: int = 0

    def add(self, outcome: Outcome) -> list[Image]:
        """Count a page; return its images with a text."""
        if isinstance(outcome, Damage):
            self.damage.append(outcome.what)
            return []
        if isinstance(outcome, PageError):
            self.pages[str(outcome)] += 1
            return []
        self.pages["read"] += 1
        self.images.update(outcome.found.kinds)
        self.notes.update(outcome.found.notes)
        self.notes["cut_pages"] += outcome.cut
        if outcome.told_by:
            self.encodings[f"{outcome.encoding} told by {outcome.told_by}"] += 1
        self.pairs += len(outcome.found.images)
        return outcome.found.images

    def stated(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        names = ("pages", "images", "encodings", "notes")
        return {name: dict(+getattr(self, name)) for name in names} | {"pairs": self.pairs}


def extract_part(
    run: ExtractRun, part: Part, _: Iterator[pa.RecordBatch], send: Send
) -> dict[str, Any]:
    """Read a part, and send its pairs."""
    account = _Account()
    images: list[Image] = []
    sent = 0
    for outcome in _outcomes(run, part):
        images += account.add(outcome)
        if len(images) >= _SENT_AT_ONCE:
            _send(run, images, (part.index << _PARTS_BITS) + sent, send)
            sent += len(images)
            images = []
    _send(run, images, (part.index << _PARTS_BITS) + sent, send)
    files = [_stated(path, run.source) for path in part.files]
    facts = {"files": files, "damage": account.damage, "pairs": account.pairs}
    facts["pages"] = account.pages.total()
    return {"shards": {part.name: facts}} | account.stated()


def merge_pairs(
    run: ExtractRun, partition: int, received: Iterator[pa.RecordBatch], _: Send
) -> dict[str, Any]:
    """Keep the first of equal pairs; write those of a partition in the order of their uids."""
    table = pa.Table.from_batches(received, _SENT)
    table = table.sort_by([("uid", "ascending"), ("order", "ascending")]).combine_chunks()
    uids = table["uid"]
    changes = pc.not_equal(uids[1:], uids[:-1]).to_numpy() if len(table) else np.zeros(0, bool)
    starts = np.concatenate([[0][: len(table)], np.flatnonzero(changes) + 1]).astype(np.int64)
    counts = np.diff(starts, append=len(table))
    kept = table.take(pa.array(starts)).append_column("occurrences", pa.array(counts, pa.int64()))
    kept = kept.select(PAIRS.names)
    with parquet_writer(run.output / f"{partition:05d}.parquet", PAIRS) as sink:
        sink.write_table(kept, row_group_size=_ROWS_IN_GROUP)
    return {"kept": len(kept), "duplicates": len(table) - len(kept)}


def finish(account: dict[str, Any], run: ExtractRun) -> str:
    """Write the page, and then the manifest; return its path.

    Raises:
        ManifestError: The account does not close.
    """
    pages, images = _sorted(account["pages"]), _sorted(account["images"])
    read = pages.pop("read", 0)
    manifest = {
        "format": FORMAT,
        "altmill": code_version(),
        "environment": environment() | {name: version_of(name) for name in _LIBRARIES},
        "input": str(run.source),
        "base_url": run.base_url,
        "pages_in": read + sum(pages.values()),
        "pages_not_read": pages,
        "images_in": account["pairs"] + sum(images.values()),
        "dropped": images | {"duplicate": account["duplicates"]},
        "kept": account["kept"],
        "encodings": _sorted(account["encodings"]),
        "notes": _sorted(account["notes"]),
        "parts": [{"part": name} | account["shards"][name] for name in sorted(account["shards"])],
    }
    if manifest["images_in"] != manifest["kept"] + sum(manifest["dropped"].values()):
        raise ManifestError(
            f"the account must close, got {manifest['images_in']} images, {manifest['kept']} kept "
            f"and {manifest['dropped']} dropped; this is a defect of altmill: please report it"
        )
    write_extract_page(manifest, run.output / REPORT)
    write_json(run.output / NAME, manifest)
    return str(run.output / NAME)


def funnel(manifest: Mapping[str, Any]) -> str:
    """Say what became of the pages and the images."""
    lines = [f"{manifest['pages_in']:>12,}          pages"]
    lines += _lines(manifest["pages_not_read"], manifest["pages_in"], "page")
    lines.append(f"{manifest['images_in']:>12,}          images in the others")
    lines += _lines(manifest["dropped"], manifest["images_in"], "image")
    share = manifest["kept"] / max(manifest["images_in"], 1)
    lines.append(f"{manifest['kept']:>12,}  {share:6.1%}  kept")
    damaged = sum(bool(part["damage"]) for part in manifest["parts"])
    if damaged:
        lines += ["", f"{damaged:,} damaged inputs, read as far as they go: {NAME} names them"]
    return "\n".join(lines)


def _lines(counts: Mapping[str, int], whole: int, what: str) -> list[str]:
    return [f"{-n:>12,}  {n / whole:6.1%}  {what}.{kind}" for kind, n in counts.items() if n]


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _outcomes(run: ExtractRun, part: Part) -> Iterator[Outcome]:
    """Yield what became of each page of a part."""
    for path in part.files:
        if part.is_archive:
            yield from read_archive(path)
        else:
            yield read_html(path, _page_url(run, path))


def _page_url(run: ExtractRun, path: Path) -> str | None:
    """Return the URL of an HTML file; None if it is not known what its folder stands for."""
    if run.base_url is None:
        return None
    inside = path.relative_to(run.source).as_posix().encode(errors="surrogateescape")
    return f"{run.base_url.rstrip('/')}/{quote(inside)}"


def _stated(path: Path, root: Path) -> dict[str, Any]:
    stated: dict[str, Any] = {"path": path.relative_to(root).as_posix()}
    with suppress(OSError):
        stated |= {"bytes": path.stat().st_size, "xxh3_128": file_digest(path)}
    return stated


def _send(run: ExtractRun, images: list[Image], first: int, send: Send) -> None:
    """Send images to the partitions of their uids."""
    if not images:
        return
    digests = [hashlib.sha256(f"{i.url}\0{i.text}".encode()).digest()[:16] for i in images]
    hashes: NDArray[np.uint64] = np.frombuffer(b"".join(digests), ">u8")[::2].astype(np.uint64)
    columns = dict(zip(Image._fields, map(list, zip(*images, strict=True)), strict=True))
    columns |= {"uid": [digest.hex() for digest in digests]}
    columns |= {"order": list(range(first, first + len(images)))}
    for name in ("page_title", "page_language", "title", "figure_caption", "text_around"):
        columns[name] = [text or None for text in columns[name]]
    batch = pa.record_batch([pa.array(columns[f.name], f.type) for f in _SENT], schema=_SENT)
    send("pairs", batch, run.partition(hashes))
