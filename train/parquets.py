"""List the samples of a parquet that holds images: img2dataset's, the Hub's, anybody's."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from filters.rule import RecipeError
from recaption.spans import spans
from train.mixing import Captions
from train.places import Places, Row, clean, size_of_images, values_of
from train.sources import Shard


def list_parquet(shard: Shard, captions: Captions) -> Places:
    """List a parquet's samples, by row groups; one that cannot be read has none.

    Raises:
        RecipeError: There is no column of a kind of caption that is wanted.
    """
    places, first = Places(), 0
    with pq.ParquetFile(spans(shard.path)) as file:
        texts = [_column(shard, name, file.schema_arrow.names) for name in captions.names]
        wanted = sorted({name for name in (*texts, shard.key, shard.status) if name})
        for number in range(file.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            try:
                table = file.read_row_group(number, wanted)
                found = list(_rows(shard, table, texts, first, places))
            except (OSError, pa.ArrowException) as error:
                places.damage.append(f"row group {number}: {str(error).splitlines()[0]}")
                places.left_out["metadata_unreadable"] += rows
            else:
                size = size_of_images(file, number, str(shard.image))
                places.add(number, size, found, captions)
            first += rows
    return places


def _column(shard: Shard, kind: str, names: Sequence[str]) -> str:
    """Return the column with a kind of caption."""
    theirs = {
        "chosen": shard.caption,
        "raw": "org_caption" if "org_caption" in names else shard.caption,
        "synthetic": "re_caption",
    }
    column = theirs.get(kind, kind)
    if column is None or column not in names:
        raise RecipeError(
            f"captions.weights.{kind} must be a kind of caption that the data has, got no column "
            f"of it in {shard.path}; its columns are {', '.join(names)}"
        )
    return column


def _rows(
    shard: Shard, table: pa.Table, texts: Sequence[str], first: int, places: Places
) -> Iterator[Row]:
    numbers = (f"{first + row:09d}" for row in range(len(table)))
    keys = values_of(table[shard.key]) if shard.key else [None] * len(table)
    failed = [False] * len(table)
    if shard.status:
        failed = pc.not_equal(table[shard.status], "success").to_pylist()
    several = zip(*(values_of(table[name]) for name in texts), strict=True)
    each = enumerate(zip(numbers, keys, failed, several, strict=True))
    for row, (number, key, fails, captions) in each:
        if fails:
            places.left_out["download_failed"] += 1
        else:
            yield next(iter(clean(key)), number), row, 0, [clean(one) for one in captions]
