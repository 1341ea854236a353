"""Build indexes of test sets, and merge them."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from filters.recipe import Embedding
from filters.rule import RecipeError
from pipelines import hamming
from pipelines.buckets import Vectors, build_buckets, kmeans, write_buckets
from pipelines.hashes import BITS, MIN_QUALITY, VERSION, Grids, dihedral, hashes, packed
from pipelines.images import read_header
from pipelines.index import BUCKETS, FORMAT, NAME, SCHEMA, describe, open_index
from pipelines.inputs import InputError
from pipelines.local import spread
from pipelines.manifest import code_version
from pipelines.sources import Part, find_images
from pipelines.storage import ipc_writer
from recaption.embedding import encoder
from recaption.files import put_folder, replacing, write_json
from recaption.stores import working

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexPlan:
    """What an index is made of."""

    name: str
    source: str
    output: Path
    embedding: Embedding
    """How to embed the images, too; not at all, if it names no model."""
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
    embedding = describe(plan.embedding) if plan.embedding.model else None
    found: list[pa.RecordBatch] = []
    vectors: list[Vectors] = []
    bad: list[str] = []
    for batch, rows, refused in spread(read, parts, plan.workers, f"index of {plan.source}"):
        found.append(batch)
        vectors.append(rows)
        bad += refused
    if bad and not plan.skip_bad:
        raise InputError(
            f"test images must be decodable, got {len(bad)} that are not: "
            f"{', '.join(bad[:_NAMED])}{', ...' * (len(bad) > _NAMED)}; repair them, or leave them "
            "out with --skip-bad"
        )
    entries = pa.Table.from_batches(found, SCHEMA)
    source = {"name": plan.name, "source": str(parts[0].root), "images": len(entries)}
    made = {"test_sets": [source | {"skipped": sorted(bad)}], "dihedral": plan.dihedral}
    return _write(plan.output, entries, vectors, made | {"embedding": embedding})


def merge_indexes(paths: Sequence[Path], output: Path) -> dict[str, Any]:
    """Merge indexes into one; return what its index.json says.

    Raises:
        RecipeError: One is no index, or they differ in what they hold, or share a test set.
        FileExistsError: The output is there already.
    """
    _check_new(output)
    opened = [open_index(path) for path in paths]
    parts = [part for index in opened for part in index.about["test_sets"]]
    names = sorted(part["name"] for part in parts)
    made = {name: opened[0].about[name] for name in ("dihedral", "embedding")}
    if len(set(names)) < len(names):
        raise RecipeError(
            f"merged indexes must hold each test set once, got {', '.join(names)}; name each once"
        )
    for index in opened:
        if any(index.about[name] != value for name, value in made.items()):
            raise RecipeError(
                f"merged indexes must be built alike, got {index.path}, which differs from "
                f"{opened[0].path} in flips and turns or in its embeddings; build them alike"
            )
    entries = pa.concat_tables([index.entries for index in opened])
    vectors = [index.vectors for index in opened if index.vectors is not None]
    return _write(output, entries, vectors, made | {"test_sets": parts})


def _check_new(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(
            f"{output} must be a new or an empty folder, got one with files; remove it, or "
            "choose another"
        )


def _read_part(plan: IndexPlan, part: Part) -> tuple[pa.RecordBatch, Vectors, list[str]]:
    """Hash and embed the images of a part; return what is known of them, and names of bad ones."""
    rows, bad, images = [], [], []
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
        images.append(image if plan.embedding.model else b"")
    vectors = np.empty((len(images), 0), np.float32)
    if plan.embedding.model and images:
        vectors = encoder(plan.embedding)(images)
    return pa.RecordBatch.from_pylist(rows, SCHEMA), vectors, bad


def _hashes(grids: list[Grids]) -> dict[str, Any]:
    variants = [hashes(variant) for variant in grids]
    return {
        "phash": [variant.phash for variant in variants],
        "pdq": [variant.pdq for variant in variants],
        "pdq_quality": variants[0].pdq_quality,
    }


def _write(
    output: Path, table: pa.Table, vectors: Sequence[Vectors], made: dict[str, Any]
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
        "images": len(entries),
        "flat": len(entries) - pc.sum(telling).as_py(),
    } | made
    told = [about, entries["sha256"].to_pylist()]
    about["digest"] = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    folder = working(output.with_name(f".{output.name}.{os.getpid()}.tmp"))
    try:
        with ipc_writer(folder / "images.arrow", SCHEMA) as sink:
            sink.write_batch(entries)
        for kind in BITS:
            hexes = entries[kind].filter(telling).flatten().to_pylist()
            hashed, first = np.unique(packed(hexes, BITS[kind]), axis=0, return_index=True)
            of = np.flatnonzero(telling)[first // (8 if made["dihedral"] else 1)]
            hamming.write_index(folder / kind, hashed)
            _save(folder / kind / "entries.npy", of.astype(np.uint32))
        digests = packed(entries["sha256"].to_pylist(), 256)
        order = np.lexsort(digests.T[::-1])
        _save(folder / "sha256" / "digests.npy", digests[order])
        _save(folder / "sha256" / "entries.npy", order.astype(np.uint32))
        if made["embedding"]:
            _write_vectors(folder / BUCKETS, vectors, made["embedding"]["clusters"])
        write_json(folder / NAME, about)
        put_folder(folder, output, NAME)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return about


def _write_vectors(folder: Path, parts: Sequence[Vectors], clusters: int) -> None:
    vectors = np.concatenate([part for part in parts if len(part)])
    if clusters:
        write_buckets(folder, build_buckets(vectors, kmeans(vectors, clusters)))
    else:
        _save(folder / "vectors.npy", vectors)


def _save(path: Path, array: NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)
