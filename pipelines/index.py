"""Indexes of test sets: small folders of hashes, in which a job looks for its training images.

indexes/imagenet-val/
  index.json       format, test sets with their sources, versions, digest
  images.arrow     test_set, name, sha256, width, height, phash, pdq, pdq_quality
  phash/ pdq/      the hashes and, of dihedral indexes, their flips and turns, for `hamming`
  sha256/          digests of the files, sorted
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from filters.rule import RecipeError
from pipelines import hamming
from pipelines.hashes import BITS, MIN_QUALITY, VERSION, Grids, dihedral, hashes, packed
from pipelines.images import read_header
from pipelines.inputs import InputError
from pipelines.local import WorkerError, start_worker
from pipelines.manifest import code_version
from pipelines.sources import Part, find_images
from pipelines.storage import ipc_writer, read_ipc, read_json, replacing, write_json

FORMAT = 1
NAME = "index.json"
SCHEMA = pa.schema(
    [
        ("test_set", pa.string()),
        ("name", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("phash", pa.list_(pa.string())),
        ("pdq", pa.list_(pa.string())),
        ("pdq_quality", pa.int32()),
    ]
)
"""`images.arrow`; of a dihedral index, the hashes are those of the eight variants."""

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexPlan:
    """What an index is made of."""

    name: str
    source: str
    output: Path
    dihedral: bool
    """Hash the eight flips and quarter turns of each test image."""
    skip_bad: bool
    max_pixels: int
    workers: int


def build_index(plan: IndexPlan) -> dict[str, Any]:
    """Build the index of a test set; return what its index.json says.

    Raises:
        InputError: There is no image, or one cannot be decoded and bad ones are not to be skipped.
        FileExistsError: The output is there already.
        WorkerError: A process was killed.
    """
    _check_new(plan.output)
    parts = find_images(plan.source, plan.output)
    read = partial(_read_part, plan)
    found: list[pa.RecordBatch] = []
    bad: list[str] = []
    try:
        with ProcessPoolExecutor(plan.workers, get_context("spawn"), start_worker) as pool:
            done = pool.map(read, parts)
            for batch, refused in tqdm(done, "Index", len(parts), unit=" parts", disable=None):
                found.append(batch)
                bad += refused
    except BrokenProcessPool:
        raise WorkerError(
            f"the index of {plan.source} must be built, but a process died at it; look for an "
            "out-of-memory kill, and use fewer --workers"
        ) from None
    if bad and not plan.skip_bad:
        raise InputError(
            f"test images must be decodable, got {len(bad)} that are not: "
            f"{', '.join(bad[:_NAMED])}{', ...' * (len(bad) > _NAMED)}; repair them, or leave them "
            "out with --skip-bad"
        )
    entries = pa.Table.from_batches(found, SCHEMA)
    source = {"name": plan.name, "source": str(parts[0].root), "images": len(entries)}
    return _write(plan.output, entries, [source | {"skipped": sorted(bad)}], dihedral=plan.dihedral)


def merge_indexes(paths: Sequence[Path], output: Path) -> dict[str, Any]:
    """Merge indexes into one; return what its index.json says.

    Raises:
        RecipeError: One is no index, or they differ in what they hold, or share a test set.
        FileExistsError: The output is there already.
    """
    _check_new(output)
    opened = [open_index(path) for path in paths]
    kinds = {index.about["dihedral"] for index in opened}
    names = [part["name"] for index in opened for part in index.about["test_sets"]]
    if len(kinds) > 1 or len(set(names)) < len(names):
        raise RecipeError(
            "merged indexes must all be dihedral or all upright, and each test set must be in one, "
            f"got dihedral: {sorted(kinds)} and {', '.join(sorted(names))}; build them alike"
        )
    entries = pa.concat_tables([index.entries for index in opened])
    parts = [part for index in opened for part in index.about["test_sets"]]
    return _write(output, entries, parts, dihedral=kinds.pop())


def open_index(path: Path) -> "TestIndex":
    """Open an index.

    Raises:
        RecipeError: It is no index, of another version, or empty.
    """
    return _open(path, (path / NAME).stat().st_mtime_ns if (path / NAME).is_file() else 0)


@cache
def _open(path: Path, _: int) -> "TestIndex":
    return TestIndex(path)


class TestIndex:
    """An index of test sets, its files mapped into memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about = _about(path)
        self.entries = pa.Table.from_batches(read_ipc(path / "images.arrow"), SCHEMA)
        self._hashes = {kind: hamming.Index(path / kind) for kind in BITS}
        self._of_hash = {kind: _load(path / kind / "entries.npy") for kind in BITS}
        self._digests, self._of_digest = (
            _load(path / "sha256" / f"{name}.npy") for name in ("digests", "entries")
        )

    def nearest(self, kind: str, queries: NDArray[np.uint64], radius: int) -> hamming.Nearest:
        """Find the test image with the nearest hash of a kind; see `hamming.Index.nearest`."""
        found = self._hashes[kind].nearest(queries, radius)
        entries = self._of_hash[kind]
        there = found.at >= 0
        found.at[there] = entries[found.at[there]]
        return found

    def same_files(self, sha256: Sequence[str]) -> NDArray[np.int64]:
        """Return the test image with each digest; -1 where there is none."""
        wanted = packed(list(sha256), 256)
        at = np.searchsorted(self._digests[:, 0], wanted[:, 0])
        at = np.minimum(at, len(self._digests) - 1)
        same = (self._digests[at] == wanted).all(axis=1)
        return np.where(same, self._of_digest[at].astype(np.int64), -1)

    def names(self, entries: NDArray[np.int64]) -> pa.StringArray:
        """Return the names of test images, after their test set's."""
        chosen = self.entries.select(["test_set", "name"]).take(pa.array(entries))
        joined = pc.binary_join_element_wise(chosen["test_set"], chosen["name"], "/")
        return joined.combine_chunks()


def _about(path: Path) -> dict[str, Any]:
    try:
        about = read_json(path / NAME)
        versions = about["format"], about["hashes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"index {path} must be a folder that the job index wrote, got: {error}; build it, or "
            "correct the path"
        ) from None
    if versions != (FORMAT, VERSION):
        raise RecipeError(
            f"index {path} must have format {FORMAT} and hashes of version {VERSION}, got "
            f"{versions[0]} and {versions[1]}; build it again"
        )
    return about


def _check_new(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(
            f"{output} must be a new or an empty folder, got one with files; remove it, or "
            "choose another"
        )


def _read_part(plan: IndexPlan, part: Part) -> tuple[pa.RecordBatch, list[str]]:
    """Hash the images of a part; return what is known of them, and the names of the bad ones."""
    rows, bad = [], []
    threadpool_limits(1, "blas")  # this process is one of a pool
    for name, image in part.read():
        header = read_header(image, plan.max_pixels)
        grids = None if header.error else dihedral(image, plan.max_pixels)
        if grids is None:
            bad.append(name)
            continue
        rows.append(
            {
                "test_set": plan.name,
                "name": name,
                "sha256": hashlib.sha256(image).hexdigest(),
                "width": header.width,
                "height": header.height,
            }
            | _hashes(grids if plan.dihedral else grids[:1])
        )
    return pa.RecordBatch.from_pylist(rows, SCHEMA), bad


def _hashes(grids: list[Grids]) -> dict[str, Any]:
    variants = [hashes(variant) for variant in grids]
    return {
        "phash": [variant.phash for variant in variants],
        "pdq": [variant.pdq for variant in variants],
        "pdq_quality": variants[0].pdq_quality,
    }


def _write(
    output: Path, table: pa.Table, test_sets: list[dict[str, Any]], *, dihedral: bool
) -> dict[str, Any]:
    """Write an index, whole or not at all."""
    if not len(table):
        raise InputError(f"an index must hold an image, got none for {output}; check the images")
    entries = table.combine_chunks().to_batches()[0]
    telling = pc.greater_equal(entries["pdq_quality"], MIN_QUALITY)
    about = {
        "format": FORMAT,
        "hashes": VERSION,
        "altmill": code_version(),
        "test_sets": test_sets,
        "images": len(entries),
        "flat": len(entries) - pc.sum(telling).as_py(),
        "dihedral": dihedral,
        "digest": hashlib.sha256("".join(entries["sha256"].to_pylist()).encode()).hexdigest(),
    }
    folder = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        with ipc_writer(folder / "images.arrow", SCHEMA) as sink:
            sink.write_batch(entries)
        for kind in BITS:
            hexes = entries[kind].filter(telling).flatten().to_pylist()
            hashed, first = np.unique(packed(hexes, BITS[kind]), axis=0, return_index=True)
            of = np.flatnonzero(telling)[first // (8 if dihedral else 1)]
            hamming.write_index(folder / kind, hashed)
            _save(folder / kind / "entries.npy", of.astype(np.uint32))
        digests = packed(entries["sha256"].to_pylist(), 256)
        order = np.lexsort(digests.T[::-1])
        _save(folder / "sha256" / "digests.npy", digests[order])
        _save(folder / "sha256" / "entries.npy", order.astype(np.uint32))
        write_json(folder / NAME, about)
        folder.replace(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return about


def _save(path: Path, array: NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def _load(path: Path) -> NDArray[Any]:
    return np.load(path, mmap_mode="r")
