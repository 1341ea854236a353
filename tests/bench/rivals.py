"""The same work by other means: Beam with an element per row, DuckDB, Pillow with imagehash."""

import hashlib
import io
import re
import shutil
import tarfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import apache_beam as beam
import duckdb
import imagehash
import numpy as np
import pyarrow.parquet as pq
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image

TABLES = {"texts": "text", "images": "image", "ngrams": "ngram"}
"""The corpus-wide tables, and the name of each table's names."""

_TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")  # marks aside, which the corpus has none of
_SQL = r"""
SET threads = 1;
CREATE TABLE pairs AS SELECT url AS image,
    trim(regexp_replace(lower(caption), '\s+', ' ', 'g')) AS text,
    regexp_extract_all(lower(caption), '[\pL\pM\pN]+(?:[''\x{{2019}}][\pL\pM\pN]+)*') AS tokens
FROM read_parquet('{source}/*.parquet');
CREATE TABLE texts AS SELECT text, count(DISTINCT image) AS count FROM pairs GROUP BY text;
CREATE TABLE images AS SELECT image, count(DISTINCT text) AS count FROM pairs GROUP BY image;
CREATE TABLE ngrams AS SELECT ngram, count(*) AS count FROM (SELECT unnest(list_concat(tokens,
    list_transform(range(1, len(tokens)), lambda i: tokens[i] || ' ' || tokens[i + 1])
)) AS ngram FROM pairs) GROUP BY ngram;
"""
_WRITE = """
COPY (SELECT row_number() OVER (ORDER BY count DESC, {name}) AS rank, {name}, count FROM {table}
WHERE count >= {least} ORDER BY rank) TO '{output}/{table}.parquet' (COMPRESSION zstd)
"""


def count_with_duckdb(source: Path, output: Path) -> None:
    """Write the corpus-wide tables of a metadata corpus, sorted by rank, with one thread.

    The tokens are ours where NFKC changes nothing, as in the generated corpus.
    """
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    with duckdb.connect() as connection:
        connection.execute(_SQL.format(source=source))
        for table, name in TABLES.items():
            least = 1 if table == "ngrams" else 2  # our tables leave out what is not shared
            connection.execute(_WRITE.format(table=table, name=name, least=least, output=output))


def count_with_plain_beam(source: Path, output: Path) -> None:
    """Write the corpus-wide counts of a metadata corpus, as lines, with one element per row."""
    with beam.Pipeline(FnApiRunner()) as pipeline:
        rows = pipeline | beam.io.ReadFromParquet(f"{source}/*.parquet")
        pairs = rows | beam.Map(lambda row: (row["url"], _text_key(row["caption"])))
        pairs = pairs | beam.Distinct()
        counts = {
            "texts": pairs | "Texts" >> beam.Values() | "CountTexts" >> _count(),
            "images": pairs | "Images" >> beam.Keys() | "CountImages" >> _count(),
            "ngrams": rows | beam.FlatMap(_ngrams) | "CountNgrams" >> _count(),
        }
        for table, counted in counts.items():
            lines = counted | f"Lines{table}" >> beam.MapTuple(lambda name, n: f"{n}\t{name}")
            _ = lines | f"Write{table}" >> beam.io.WriteToText(str(output / table))


def read_lines(output: Path, table: str) -> dict[str, int]:
    """Read what `count_with_plain_beam` wrote; of texts and images, those that are shared."""
    lines = [
        line.split("\t", 1)
        for path in output.glob(f"{table}-*")
        for line in path.read_text().splitlines()
    ]
    return {name: int(n) for n, name in lines if table == "ngrams" or int(n) > 1}


def read_table(path: Path) -> dict[str, int]:
    """Read the names and counts that `count_with_duckdb` wrote."""
    _, names, counts = pq.read_table(path).to_pydict().values()
    return dict(zip(names, counts, strict=True))


def header(data: bytes) -> object:
    """Read an image's size, and hash its bytes."""
    return hashlib.sha256(data).hexdigest(), Image.open(io.BytesIO(data)).size


def load(data: bytes) -> object:
    """Decode an image."""
    return Image.open(io.BytesIO(data)).load()


def phash(data: bytes) -> object:
    """Decode an image, and make its perceptual hash."""
    return imagehash.phash(Image.open(io.BytesIO(data)))


def pdq(data: bytes) -> object:
    """Decode an image, and make its PDQ hash."""
    import pdqhash  # needs a compiler to be installed, and so is no dependency

    return pdqhash.compute(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def look_at_images(tars: Sequence[Path], look: Callable[[bytes], object]) -> None:
    """Read tars with the standard library, and look at every image."""
    for path in tars:
        for data in _images(path):
            look(data)


def _images(path: Path) -> Iterator[bytes]:
    with tarfile.open(path) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None and not member.name.endswith((".txt", ".json")):
                yield content.read()


def _text_key(caption: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", caption).lower().split())


def _ngrams(row: dict[str, str]) -> Iterator[str]:
    unigrams = _TOKEN.findall(unicodedata.normalize("NFKC", row["caption"]).lower())
    yield from unigrams
    yield from (f"{left} {right}" for left, right in pairwise(unigrams))


def _count() -> beam.PTransform:
    return beam.combiners.Count.PerElement()
