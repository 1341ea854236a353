"""Find the files of a crawl, and plan to extract their pairs."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ada_url import check_url

from filters.rule import RecipeError
from pipelines.exchange import Exchange
from pipelines.inputs import InputError, find_files
from pipelines.manifest import code_version
from recaption.stores import stat_all

REPORT = "report"
LEFT_BY_EXTRACT = ("[0-9]*.parquet", REPORT, "manifest.json")
"""What a run leaves in its output, as patterns."""

ARCHIVES = (".warc", ".wat", ".warc.gz", ".wat.gz", ".warc.zst", ".wat.zst")
PAGES = (".html", ".htm", ".xhtml", ".html.gz", ".htm.gz", ".xhtml.gz")

_PAGES_AT_ONCE = 1000
_PARTITION_BYTES = 128 << 20
"""Of gzipped input, of which the pairs are less."""
_MOST_PARTITIONS = 4096


@dataclass(frozen=True, slots=True)
class Part:
    """An archive, or some HTML files."""

    name: str
    index: int
    """Where it is in the order of all."""
    files: tuple[Path, ...]

    @property
    def is_archive(self) -> bool:
        """Whether it holds pages, and is none."""
        return self.files[0].name.lower().endswith(ARCHIVES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractRun(Exchange):
    """What all tasks of a run that extracts share."""

    base_url: str | None = None
    """The URL that the source stands for, in which HTML files have their paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractPlan:
    """A run that extracts, checked and not yet begun."""

    run: ExtractRun
    parts: tuple[Part, ...]
    digest: str

    @property
    def begun(self) -> dict[str, Any]:
        """What an unfinished run leaves, to be known by."""
        return {"plan": self.digest}


def plan_extract(
    source: str, output: Path, *, base_url: str | None, workers: int, carrier: str = "files"
) -> ExtractPlan:
    """Find the files and check all that can be checked before any work.

    Raises:
        InputError: There is nothing to read.
        RecipeError: The base URL is none.
    """
    if base_url is not None and not (base_url.startswith("http") and check_url(base_url)):
        raise RecipeError(
            f"--base-url must be an absolute http or https URL, got {base_url!r}; write it in full"
        )
    root, found = find_files(source)
    inside = output.resolve()
    files = [path for path in found if not path.resolve().is_relative_to(inside)]
    parts = tuple(_parts(root, files))
    if not parts:
        raise InputError(
            f"input {source} must hold .warc, .wat or .html files (or .gz of them), got none; "
            "check the path"
        )
    states = stat_all([path for part in parts for path in part.files])
    size = sum(state.st_size for state in states)
    run = ExtractRun(
        source=root,
        output=output,
        home=output,
        partitions=min(_MOST_PARTITIONS, 1 << (size // _PARTITION_BYTES).bit_length()),
        carrier=carrier,
        workers=workers,
        base_url=base_url,
    )
    return ExtractPlan(run=run, parts=parts, digest=_digest(run, parts, states))


def _parts(root: Path, files: Sequence[Path]) -> list[Part]:
    """Return the parts of an input, in the order of their files' paths."""
    names = {path: path.relative_to(root).as_posix() for path in files}
    order = sorted(files, key=lambda path: names[path].encode(errors="surrogateescape"))
    archives = [path for path in order if path.name.lower().endswith(ARCHIVES)]
    pages = [path for path in order if path.name.lower().endswith(PAGES)]
    groups: list[tuple[str, tuple[Path, ...]]] = [(names[path], (path,)) for path in archives]
    groups += [
        (f"pages-{at // _PAGES_AT_ONCE:05d}", tuple(pages[at : at + _PAGES_AT_ONCE]))
        for at in range(0, len(pages), _PAGES_AT_ONCE)
    ]
    return [Part(name, index, group) for index, (name, group) in enumerate(groups)]


def _digest(run: ExtractRun, parts: Sequence[Part], states: Sequence[os.stat_result]) -> str:
    """Return what tells whether a run is the same: code, options, and the input files."""
    digest = hashlib.sha256(f"{code_version()} {run.partitions} {run.base_url}\n".encode())
    files = [(part, path) for part in parts for path in part.files]
    for (part, path), state in zip(files, states, strict=True):
        line = f"{part.name} {path} {state.st_size} {state.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
