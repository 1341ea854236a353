"""The images of an audit: copies of test images, planted among a corpus's own images.

They are read and hashed here, and looked for in the indexes, by the code that a filter run uses.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from filters.nearest import Nearest
from filters.recipe import Nsfw, Recipe
from pipelines.copies import TRANSFORMS, decoded
from pipelines.hashes import BITS, packed
from pipelines.image_reader import ImageReader
from pipelines.index import TestIndex
from pipelines.inputs import InputError, Shard
from pipelines.measure import columns_path, is_exact, look_at
from pipelines.schema import NEAREST, RADII
from pipelines.sources import Part, find_images
from pipelines.test_sets import open_indexes, test_distances
from recaption.manifest import input_folder, measured_folder
from recaption.nsfw import BATCH

VARIANTS = (("same file", "", True), *((t.name, t.strength, t.benign) for t in TRANSFORMS))
"""The name, the strength and whether it is benign of each copy of an image."""

WIDEST = {"phash_radius": 15, "pdq_radius": 63}
"""How far other thresholds are tried: as far as a recipe may say."""

ROWS = pa.schema(
    [
        ("origin", pa.string()),
        ("name", pa.string()),
        ("variant", pa.int32()),
        ("shard", pa.string()),
        ("row", pa.int64()),
        ("uid", pa.string()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("pdq", pa.string()),
        ("pdq_quality", pa.int32()),
        ("embedding_similarity", pa.float64()),
        ("embedding_nearest", pa.string()),
    ]
)
"""`origin` is `copy`, `corpus` or `different`; `variant` of a copy is its place in `VARIANTS`."""

_MOST_SHARDS = 64
"""Shards that a sample of a corpus is drawn from, as others would be opened for few images each."""


class CorpusPart(NamedTuple):
    """Sampled rows of a shard."""

    shard: Shard
    places: pa.RecordBatch
    """row, uid, key, image_offset, image_bytes, and the distances that the run measured"""


def sample_test_images(indexes: Sequence[TestIndex], number: int, seed: int) -> pa.Table:
    """Draw test images, as `test_set`, `name` and `sha256`, each as likely as any other."""
    entries = pa.concat_tables([index.entries for index in indexes])
    entries = entries.select(["test_set", "name", "sha256", "pdq_quality"])
    chance = np.random.default_rng([seed, 0])
    drawn = chance.choice(len(entries), min(number, len(entries)), replace=False)
    return entries.take(pa.array(np.sort(drawn)))


def read_test_images(
    entries: pa.Table, sources: Mapping[str, str], skip: Path
) -> Iterator[tuple[str, bytes]]:
    """Yield the names, after their test set's, and the bytes of test images.

    Args:
        entries: From `sample_test_images`.
        sources: Where each test set's images are.
        skip: A folder to leave out.

    Raises:
        InputError: One is not there any more, or is another one now.
    """
    for test_set, source in sources.items():
        of_set = entries.filter(pc.equal(entries["test_set"], test_set))
        wanted = dict(zip(of_set["name"].to_pylist(), of_set["sha256"].to_pylist(), strict=True))
        try:
            for name, data in _read(source, skip, wanted):
                if hashlib.sha256(data).hexdigest() == wanted.get(name):
                    del wanted[name]
                    yield f"{test_set}/{name}", data
        except (InputError, OSError) as error:
            raise InputError(
                f"test set {test_set} must be where its index found it, got: {error}; or give its "
                "place with --images"
            ) from None
        if wanted:
            raise InputError(
                f"test set {test_set} in {source} must have the images that its index was made of, "
                f"got none, or another one, for {len(wanted):,} of them, such as "
                f"{next(iter(wanted))}; give their place with --images, or build the index again"
            )


def _read(source: str, skip: Path, wanted: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Yield the images of a source whose names are wanted, as long as any are."""
    for part in find_images(source, skip) if wanted else ():
        if wanted:
            yield from part.read(wanted.keys())


def sample_corpus(
    output: Path, manifest: dict[str, Any], number: int, seed: int
) -> list[CorpusPart]:
    """Draw images that a run has read, from no more than 64 shards.

    Raises:
        InputError: The run had no images, or they are not there any more.
    """
    root = input_folder(manifest)
    shards = [Shard.restored(stored, root) for stored in manifest["shards"]]
    shards = [shard for shard in shards if shard.kind != "metadata" and shard.rows != 0]
    if not shards:
        raise InputError(
            f"{output} must be a run over images, got one over metadata alone; download the images "
            "and filter those"
        )
    chance = np.random.default_rng([seed, 1])
    some = np.sort(chance.permutation(len(shards))[:_MOST_SHARDS])
    places = [_places(measured_folder(output, manifest), shards[at]) for at in some]
    owner = np.repeat(np.arange(len(some)), [len(part) for part in places])
    if not len(owner):
        raise InputError(f"{output} must be a run over images, got none in its shards; check them")
    row = np.concatenate([np.arange(len(part)) for part in places])
    drawn = np.sort(chance.permutation(len(owner))[:number])
    parts = [
        CorpusPart(shards[at], places[n].take(pa.array(row[drawn[owner[drawn] == n]])))
        for n, at in enumerate(some)
    ]
    for shard, _ in parts:
        for path in shard.files:
            if not path.is_file():
                raise InputError(
                    f"input {root} must still hold what {output} was made of, got no {path}; bring "
                    "it back"
                )
    return [part for part in parts if len(part.places)]


def _places(measured: Path, shard: Shard) -> pa.RecordBatch:
    names = ["uid", "key", "image_offset", "image_bytes", *NEAREST]
    table = pq.read_table(columns_path(measured, shard.name), columns=names)
    table = table.append_column("row", pa.array(np.arange(len(table))))
    table = table.filter(pc.fill_null(pc.greater(table["image_bytes"], 0), False))
    return pa.record_batch(
        [table[name].combine_chunks() for name in table.schema.names], table.schema.names
    )


def read_corpus(part: CorpusPart) -> Iterator[bytes]:
    """Yield the images of sampled rows."""
    with ImageReader(part.shard) as images:
        yield from images.read(part.places["row"].to_numpy(), part.places)


def hash_copies(recipe: Recipe, seed: int, image: tuple[str, bytes]) -> pa.RecordBatch:
    """Copy a test image in every way, and hash the copies, as `ROWS`.

    Raises:
        InputError: It cannot be decoded.
    """
    name, data = image
    picture = decoded(data, recipe.images.max_pixels)
    if picture is None:
        raise InputError(f"test image {name} must be decodable, got one that is not; repair it")
    files = [data, *(transform.copy(picture, seed) for transform in TRANSFORMS)]
    known = ({"origin": "copy", "name": name, "variant": at} for at in range(len(files)))
    return _hashed(recipe, zip(known, files, strict=True))


def make_copy(recipe: Recipe, data: bytes, variant: int, seed: int) -> bytes:
    """Return a copy of a test image that can be decoded, by its place in `VARIANTS`."""
    image = decoded(data, recipe.images.max_pixels) if variant else None
    return TRANSFORMS[variant - 1].copy(image, seed) if image else data


def hash_corpus(recipe: Recipe, part: CorpusPart) -> pa.RecordBatch:
    """Hash sampled images of a corpus, as `ROWS`."""
    shard = part.shard.name
    known = (
        {"origin": "corpus", "name": f"{shard}/{place['key']}", "shard": shard}
        | {name: place[name] for name in ("row", "uid")}
        for place in part.places.to_pylist()
    )
    return _hashed(recipe, zip(known, read_corpus(part), strict=True))


def hash_different(recipe: Recipe, part: Part) -> pa.RecordBatch:
    """Hash images that are known to be no test images, as `ROWS`."""
    return _hashed(
        recipe, (({"origin": "different", "name": name}, data) for name, data in part.read())
    )


def _hashed(recipe: Recipe, images: Iterable[tuple[dict[str, Any], bytes]]) -> pa.RecordBatch:
    rows = []
    pairs = iter(images)
    with threadpool_limits(1, "blas"):  # all cores have a process already
        while some := list(islice(pairs, BATCH)):
            looks = look_at(recipe, [data for _, data in some])
            for (known, data), seen in zip(some, looks, strict=True):
                rows.append(known | {"sha256": hashlib.sha256(data).hexdigest()} | seen)
    return pa.RecordBatch.from_pylist(rows, ROWS)


def detectors(recipe: Recipe) -> list[Nearest]:
    """Return the rules of a recipe that look for test images, and can."""
    rules = [rule for rule in recipe.rules if isinstance(rule, Nearest) and rule.limits()]
    return [rule for rule in rules if rule.column in RADII or recipe.embedding.model]


def audited(recipe: Recipe, indexes: tuple[str, ...]) -> Recipe:
    """Return a recipe that only looks for test images, as a run by `recipe` does, in indexes."""
    hashes = "exact" if is_exact(recipe) else "fast"
    return replace(
        recipe,
        test_sets=replace(recipe.test_sets, indexes=indexes),
        images=replace(recipe.images, hashes=hashes),
        nsfw=Nsfw(),
    )


def widened(recipe: Recipe) -> Recipe:
    """Return the recipe with the largest radii, which finds the same and more."""
    widest: Any = WIDEST
    return replace(recipe, test_sets=replace(recipe.test_sets, **widest))


def look_up(recipe: Recipe, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Look for images in a recipe's indexes and judge them by its rules.

    Args:
        recipe: Its rules are those of a filter run, its indexes those to look in.
        rows: As `ROWS`, all hashed.

    Returns:
        For each rule: its column, the name of the nearest test image, why it drops the image or a
        null, its column by the widest search, and how many test images the rule finds.
    """
    embedded = {name: rows[name] for name in ("embedding_similarity", "embedding_nearest")}
    found = test_distances(recipe, rows) | embedded
    wide = test_distances(widened(recipe), rows) | embedded
    told = pa.record_batch(found)
    columns: dict[str, pa.Array] = {}
    for rule in detectors(recipe):
        reasons = rule(told)
        columns |= {name: found[name] for name in rule.columns}
        columns |= {f"{rule.name}_reason": reasons, f"widest_{rule.column}": wide[rule.column]}
        columns[f"{rule.name}_pairs"] = _count_pairs(recipe, rule, rows, reasons)
    return pa.record_batch(columns)


def reach(rule: Nearest, recipe: Recipe) -> int:
    """Return the largest distance, in bits, at which a rule finds an image; -1: none."""
    radius = getattr(recipe.test_sets, RADII[rule.column])
    broken = pc.is_valid(rule(pa.record_batch({rule.column: pa.array(range(radius + 1))})))
    return int(np.flatnonzero(broken.to_numpy(zero_copy_only=False)).max(initial=-1))


def _count_pairs(
    recipe: Recipe, rule: Nearest, rows: pa.RecordBatch, reasons: pa.Array
) -> pa.Array:
    """Count the test images that each image is dropped for; of a copy, one is enough.

    By embeddings an image counts once, as its vector is not kept.
    """
    pairs = pc.cast(pc.is_valid(reasons), pa.int64()).to_numpy().copy()
    if rule.column in RADII:
        kind, most = rule.column.partition("_")[0], reach(rule, recipe)
        planted = pc.equal(rows["origin"], "copy").to_numpy(zero_copy_only=False)
        for at in np.flatnonzero((pairs > 0) & ~planted):
            query = packed([rows[kind][at].as_py()], BITS[kind])[0]
            within = (index.count_within(kind, query, most) for index in open_indexes(recipe))
            pairs[at] = max(1, sum(within))
    return pa.array(pairs)
