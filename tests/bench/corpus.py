"""Make seeded corpora to measure on: captions whose words follow Zipf's law, and photographs."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

VOCABULARY = 100_000
"""Words to draw from.

Few captions then repeat their words and bigrams as often as the 5,000 of LAION-400M's sample do,
and 10 million have 36.6 million distinct unigrams and bigrams.
"""

_SYLLABLES = pa.array([c + v for c in "bcdfghjklmnprstvwxyz" for v in "aeiou"])
WORDS = 11.0
"""Of a caption, on average; one, and others by a negative binomial, half of them at most 9."""
_SHAPE = 2.0
"""Of the negative binomial."""
_SHARED = 0.05
"""The share of rows with a caption that others have too, and of those with such a URL."""
_POOL = 50_000
"""Captions, and URLs, that are shared."""
_MOST_WORDS = 60


def write_captions(
    folder: Path,
    rows: int,
    rows_per_shard: int,
    *,
    seed: int = 0,
    words: float = WORDS,
    vocabulary: int = VOCABULARY,
) -> None:
    """Write metadata parquet, `url` and `caption`, as many shards as it takes.

    Captions are, unless told otherwise, like LAION's in length (11 tokens), in the share that is
    not ASCII (5%) and in how often words repeat; one in twenty is shared boilerplate.
    """
    folder.mkdir(parents=True)
    known = make_words(vocabulary)
    pool = _captions(np.random.default_rng(seed), known, _POOL, words)
    for shard, first in enumerate(range(0, rows, rows_per_shard)):
        rng = np.random.default_rng([seed, shard])
        number = np.arange(first, min(rows, first + rows_per_shard))
        own = _captions(rng, known, len(number), words)
        caption = pa.concat_arrays([pool, own]).take(_some_shared(rng, np.arange(len(number))))
        table = pa.table({"url": _urls(_some_shared(rng, number)), "caption": caption})
        pq.write_table(table, folder / f"{shard:05d}.parquet")


def write_photographs(path: Path, count: int, seed: int = 0, width: int = 640) -> None:
    """Write a tar of JPEG pictures, 4 by 3, as smooth and as noisy as photographs."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(count):
            content = {
                "jpg": _photograph(rng, width),
                "txt": f"a photograph, number {number}".encode(),
            }
            for extension, data in content.items():
                member = tarfile.TarInfo(f"{number:09d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def _zipf(rng: np.random.Generator, count: int, size: int) -> NDArray[np.int64]:
    """Draw from 0 to `count` - 1, number n with a probability near 1 / (n + 1)."""
    return np.minimum((count + 1) ** rng.random(size), count).astype(np.int64) - 1


def make_words(count: int) -> pa.StringArray:
    """Return words, commonest and shortest first; one in 125 is not ASCII."""
    number, base = np.arange(count), len(_SYLLABLES)
    words = pa.array([""]).take(pa.array(np.zeros(count, int)))
    rest = number
    while (rest >= 0).any():  # bijective digits: no word is written twice
        syllable = pa.array(rest % base, mask=rest < 0)
        words = pc.binary_join_element_wise(words, pc.fill_null(_SYLLABLES.take(syllable), ""), "")
        rest = rest // base - 1
    accent = pa.array(["", "é"]).take(pa.array((number % 125 == 124).astype(int)))
    return pc.binary_join_element_wise(words, accent, "")


def _captions(
    rng: np.random.Generator, words: pa.StringArray, rows: int, mean: float
) -> pa.StringArray:
    drawn_in_vain = _SHAPE / (mean - 1 + _SHAPE)  # so that the mean is right
    lengths = np.minimum(1 + rng.negative_binomial(_SHAPE, drawn_in_vain, rows), _MOST_WORDS)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    drawn = words.take(pa.array(_zipf(rng, len(words), offsets[-1])))
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), drawn), " ")
    return pc.binary_join_element_wise(pc.utf8_capitalize(joined), ".", "")


def _some_shared(rng: np.random.Generator, own: NDArray[np.int64]) -> pa.Int64Array:
    """Return a number of the pool for some rows, and for others their own, beyond the pool."""
    shared = rng.random(len(own)) < _SHARED
    return pa.array(np.where(shared, _zipf(rng, _POOL, len(own)), own + _POOL))


def _urls(numbers: pa.Int64Array) -> pa.StringArray:
    name = pc.utf8_lpad(pc.cast(numbers, pa.string()), 12, "0")
    return pc.binary_join_element_wise("https://images.example.com/archive/photos", name, "/")


def _photograph(rng: np.random.Generator, width: int) -> bytes:
    whole = (width, width * 3 // 4)
    picture = np.zeros((whole[1], whole[0], 3), np.float32)
    for grain, strength in ((5, 70), (20, 35), (80, 15), (width, 5)):
        size = (grain * 3 // 4, grain)
        noise = np.clip(128 + strength * rng.standard_normal((*size, 3)), 0, 255)
        layer = Image.fromarray(noise.astype(np.uint8)).resize(whole, Image.Resampling.BICUBIC)
        picture += np.asarray(layer, np.float32) - 128
    file = io.BytesIO()
    Image.fromarray(np.clip(128 + picture, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()
