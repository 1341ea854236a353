"""Facts: what is known of each row alone, short of decoding its image."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.text import count_words, normalise, text_keys, tokenise
from pipelines import ngrams
from pipelines.exchange import Run
from pipelines.images import read_header
from pipelines.inputs import Shard
from pipelines.language import identifier
from pipelines.rows import Rows
from pipelines.schema import COLUMNS

_LATER = (
    "ngram_rank",
    "images_per_text",
    "texts_per_image",
    "shorter_side_px",
    "aspect_ratio",
    *COLUMNS.names[COLUMNS.names.index("decoded") :],
)
FACTS = pa.schema(
    [
        *(field for field in COLUMNS if field.name not in _LATER),
        pa.field("text_key", pa.string()),
        pa.field("token_hashes", pa.list_(pa.uint64())),
    ]
)
"""What is known of a row alone: the measured columns but for the later ones, and two keys."""


def facts_path(run: Run, shard: Shard) -> Path:
    """Return where a shard's facts are kept until its columns are measured."""
    return run.work / "facts" / f"{shard.name}.arrow"


def image_keys(facts: pa.RecordBatch) -> pa.StringArray:
    """Return each row's image key: the digest of its bytes, or else its URL."""
    return pc.coalesce(facts["sha256"], facts["url"])


def measure_facts(run: Run, shard: Shard, rows: Rows) -> tuple[pa.RecordBatch, ngrams.Vocabulary]:
    """Measure what is known of each row alone."""
    batch = rows.batch
    captions = batch["caption"]
    normalised = normalise(captions)
    keys = text_keys(normalised)
    tokens = tokenise(normalised)
    words = ngrams.vocabulary(tokens, run.recipe.tables.hash_seed)
    token_counts = np.bincount(tokens.rows, minlength=len(batch))
    language, language_score = identifier(run.recipe.language.model).identify(captions)
    images = _image_facts(rows, shard, run.recipe.images.max_pixels)
    columns = {name: batch[name] for name in ("key", "url", "caption", "nsfw_score", "clip_score")}
    columns |= images | {
        "error": pc.coalesce(batch["error"], images["error"]),
        "char_count": pc.utf8_length(captions),
        "word_count": count_words(captions),
        "token_count": pc.if_else(pc.is_valid(captions), token_counts.astype(np.int32), None),
        "language": language,
        "language_score": language_score,
        "image_offset": batch["image_offset"],
        "text_key": pc.if_else(pc.equal(keys, ""), None, keys),
        "token_hashes": pa.ListArray.from_arrays(
            np.concatenate([[0], np.cumsum(token_counts)]).astype(np.int32),
            pa.array(words.hashes[words.ids]),
        ),
    }
    columns["uid"] = _uids(batch, image_keys(columns))
    return pa.record_batch([columns[name] for name in FACTS.names], schema=FACTS), words


def _image_facts(rows: Rows, shard: Shard, max_pixels: int) -> dict[str, pa.Array]:
    """Measure the images by their headers, or take the sizes that the input stored."""
    batch = rows.batch
    original = _sizes(batch, "original_width", "original_height")
    stored = _sizes(batch, "width", "height")
    names = ("sha256", "image_bytes", "format", "width", "height", "error")
    if shard.kind == "metadata":
        none = {name: pa.nulls(len(batch), FACTS.field(name).type) for name in names}
        width, height = (pc.coalesce(a, b) for a, b in zip(original, stored, strict=True))
        return none | {"width": width, "height": height}
    measured = [_measure(image, max_pixels) for image in rows.images]
    columns = {
        name: pa.array([values[at] for values in measured], FACTS.field(name).type)
        for at, name in enumerate(names)
    }
    width, height = (
        pc.coalesce(first, columns[name], last)
        for name, first, last in zip(("width", "height"), original, stored, strict=True)
    )
    return columns | {"width": width, "height": height}


def _measure(image: bytes | None, max_pixels: int) -> tuple[Any, ...]:
    """Return digest, size in bytes, format, width, height and error of an image."""
    if not image:
        return None, None if image is None else 0, None, None, None, "image_missing"
    header = read_header(image, max_pixels)
    return (
        hashlib.sha256(image).hexdigest(),
        len(image),
        header.format,
        header.width,
        header.height,
        header.error,
    )


def _sizes(batch: pa.RecordBatch, *names: str) -> list[pa.Int32Array]:
    """Return width and height where both are stored and possible."""
    possible = [
        pc.and_(pc.greater_equal(batch[name], 1.0), pc.less(batch[name], 2.0**31)) for name in names
    ]
    both = pc.and_(*possible)
    return [pc.cast(pc.if_else(both, batch[name], None), pa.int32(), safe=False) for name in names]


def _uids(batch: pa.RecordBatch, images: pa.StringArray) -> pa.StringArray:
    """Return the input's uids where they are DataComp's, else those of DESIGN's definition."""
    own = pc.match_substring_regex(batch["uid"], "^[0-9a-f]{32}$")
    if pc.all(pc.fill_null(own, False), min_count=0).as_py():
        return batch["uid"]
    where = pc.fill_null(pc.coalesce(batch["url"], images), "")
    named = pc.binary_join_element_wise(where, pc.fill_null(batch["caption"], ""), "\0")
    made = [hashlib.sha256(t).hexdigest()[:32] for t in pc.cast(named, pa.binary()).to_pylist()]
    return pc.if_else(pc.fill_null(own, False), batch["uid"], pa.array(made, pa.string()))
