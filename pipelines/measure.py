"""Measure: join each row's facts with the corpus-wide counts, and decode what may survive.

Decoding costs a hundred times all other measures together, so it is done only for rows that no
other rule of the recipe drops.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from filters.decision import judge
from filters.recipe import Recipe
from pipelines import lookup
from pipelines.count import hash128
from pipelines.exchange import Run, Send
from pipelines.facts import facts_path, image_keys
from pipelines.hashes import Hashes, hashes, shrink
from pipelines.image_reader import ImageReader
from pipelines.images import decodes
from pipelines.inputs import Shard
from pipelines.schema import COLUMNS
from pipelines.storage import parquet_writer, read_ipc
from pipelines.test_sets import similarities, test_distances
from pipelines.unchanged import check_stamps
from recaption.embedding import encoder
from recaption.nsfw import BATCH, scorer

_EMBEDDED = ("embedding_similarity", "embedding_nearest")
_SEEN = pa.schema(
    [
        COLUMNS.field(name)
        for name in ("error", "decoded", *Hashes._fields, "nsfw_score", *_EMBEDDED)
    ]
)
"""What a look at an image's pixels may tell."""


def columns_path(output: Path, shard: str) -> Path:
    """Return where a shard's measured columns are."""
    return output / "columns" / f"{shard}.parquet"


def measure_shard(
    run: Run, shard: Shard, _: Iterator[pa.RecordBatch], send: Send
) -> dict[str, Any]:
    """Write a shard's measured columns; send the texts and images that are shared."""
    check_stamps(shard)
    row = 0
    with (
        parquet_writer(columns_path(run.output, shard.name), COLUMNS) as sink,
        ImageReader(shard) as images,
        threadpool_limits(1, "blas"),  # of hashes; all cores have a process already
    ):
        for facts in read_ipc(facts_path(run, shard)):
            columns = _with_counts(run, facts)
            _send_shared(run, facts, columns, send)
            if shard.kind != "metadata":
                columns = _with_pixels(run, columns, images, row)
            sink.write_batch(pa.record_batch([columns[n] for n in COLUMNS.names], schema=COLUMNS))
            row += len(facts)
    check_stamps(shard)
    return {}


def _with_counts(run: Run, facts: pa.RecordBatch) -> pa.RecordBatch:
    absent = run.recipe.tables.max_ngrams + 1
    images = image_keys(facts)
    texts_per_image = lookup.counts(run.output, "images", *hash128(images))
    images_per_text = lookup.counts(run.output, "texts", *hash128(facts["text_key"]))
    pair = pc.and_(pc.is_valid(facts["text_key"]), pc.is_valid(images))
    sides = (facts["width"], facts["height"])
    longer, shorter = pc.max_element_wise(*sides), pc.min_element_wise(*sides)
    columns = {name: facts[name] for name in facts.schema.names if name in COLUMNS.names} | {
        "ngram_rank": lookup.rarest_ranks(run.output, facts["token_hashes"], absent),
        "images_per_text": pc.if_else(pair, images_per_text, None),
        "texts_per_image": pc.if_else(pair, texts_per_image, None),
        "shorter_side_px": shorter,
        "aspect_ratio": pc.divide(pc.cast(longer, pa.float64()), pc.cast(shorter, pa.float64())),
    }
    columns |= {
        field.name: pa.nulls(len(facts), field.type)
        for field in COLUMNS
        if field.name not in columns
    }
    if run.recipe.nsfw.model:  # one source of scores, not two
        columns["nsfw_score"] = pa.nulls(len(facts), pa.float64())
    return pa.record_batch([columns[name] for name in COLUMNS.names], schema=COLUMNS)


def _with_pixels(
    run: Run, columns: pa.RecordBatch, images: ImageReader, row: int
) -> pa.RecordBatch:
    """Measure what needs the pixels, for rows that nothing else drops."""
    recipe = run.recipe
    if not (recipe.images.decode or recipe.nsfw.model or recipe.hashing):  # embeddings come with it
        return columns
    survivors = _worth_decoding(recipe, columns)
    at = np.flatnonzero(survivors.to_numpy(zero_copy_only=False))
    looks: list[dict[str, Any]] = []
    for some in _batched(images.read(row + at, columns.take(pa.array(at))), BATCH):
        looks += look_at(recipe, some)
    seen = pa.RecordBatch.from_pylist(looks, _SEEN)
    before = columns["error"].filter(survivors)
    found = {"error": pc.coalesce(before, seen["error"]), "decoded": seen["decoded"]}
    if recipe.hashing:
        found |= {name: seen[name] for name in Hashes._fields}
    if recipe.nsfw.model:
        found["nsfw_score"] = seen["nsfw_score"]
    if recipe.embedding.model:
        found |= {name: seen[name] for name in _EMBEDDED}
    for name, values in found.items():
        columns = _with(columns, name, survivors, values)
    return _with_test_images(recipe, columns) if recipe.test_sets.indexes else columns


def _worth_decoding(recipe: Recipe, columns: pa.RecordBatch) -> pa.BooleanArray:
    """Say which rows' pixels are worth their cost: those of rows that stay, or may after all."""
    if recipe.images.for_recaption:
        missing = pc.equal(columns["error"], "caption_missing")
        mended = pc.fill_null(pc.and_(missing, pc.greater(columns["image_bytes"], 0)), False)
        columns = _with(columns, "error", mended, pa.nulls(mended.true_count, pa.string()))
    return pc.is_null(judge(columns, recipe.pixel_rules)["reason"])


def look_at(recipe: Recipe, images: Sequence[bytes]) -> list[dict[str, Any]]:
    """Decode images, hash them, and score those that can be decoded."""
    exact = is_exact(recipe)
    looks: list[dict[str, Any]] = []
    for image in images:
        found: dict[str, Any] = {}
        if recipe.hashing:
            grids = shrink(image, recipe.images.max_pixels, exact=exact)
            found = hashes(grids)._asdict() if grids else {}
            found["decoded"] = grids is not None
        else:
            found["decoded"] = decodes(image, recipe.images.max_pixels)
        looks.append(found | {"error": None if found["decoded"] else "image_damaged"})
    whole = [at for at, look in enumerate(looks) if look["decoded"]]
    intact = [images[at] for at in whole]
    if recipe.nsfw.model and whole:
        for at, score in zip(whole, scorer(recipe.nsfw)(intact), strict=True):
            looks[at]["nsfw_score"] = score
    if recipe.embedding.model and whole:
        alike = similarities(recipe, encoder(recipe.embedding)(intact))
        for at, similar in zip(whole, alike, strict=True):
            looks[at] |= similar
    return looks


def is_exact(recipe: Recipe) -> bool:
    """Say whether images are decoded in full before they are hashed."""
    return bool(recipe.images.hashes == "exact" or recipe.nsfw.model or recipe.embedding.model)


def _with_test_images(recipe: Recipe, columns: pa.RecordBatch) -> pa.RecordBatch:
    hashed = pc.is_valid(columns["phash"])
    distances = test_distances(recipe, columns.filter(hashed))
    for name, values in distances.items():
        columns = _with(columns, name, hashed, values)
    return columns


def _with(
    columns: pa.RecordBatch, name: str, where: pa.BooleanArray, values: pa.Array
) -> pa.RecordBatch:
    """Replace some values of a column."""
    mended = pc.replace_with_mask(columns[name], where, values)
    return columns.set_column(columns.schema.get_field_index(name), name, mended)


def _batched(items: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    return iter(lambda: list(islice(items, size)), [])


def _send_shared(run: Run, facts: pa.RecordBatch, columns: pa.RecordBatch, send: Send) -> None:
    """Send each text with its images, and each image with its texts, where there are several."""
    for channel, names, counts in (
        ("shared_texts", facts["text_key"], columns["images_per_text"]),
        ("shared_images", image_keys(facts), columns["texts_per_image"]),
    ):
        several = pc.fill_null(pc.greater(counts, 1), False)
        table = pa.table({"name": names.filter(several), "count": counts.filter(several)})
        table = table.group_by(["name", "count"], use_threads=False).aggregate([])
        batch = table.combine_chunks().to_batches()
        for part in batch:
            send(channel, part, run.partition(hash128(part["name"])[0]))
