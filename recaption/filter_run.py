"""Read what a filter run left, its pairs and their images, to give them better captions."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from filters.decision import all_rules
from filters.parsing import from_dict
from filters.rule import RecipeError
from recaption.manifest import NAME, input_folder, measured_folder, read_manifest
from recaption.stores import readable

_MEASURED = [
    *("uid", "key", "caption", "error", "sha256", "image_offset", "image_bytes", "decoded"),
]
_IMAGE_ROWS = 64


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the run's input files, or a tar with its parquet beside it."""

    name: str
    tar: Path | None
    parquet: Path | None
    image: str | None
    """The parquet's column of image bytes, where they are there and in no tar."""


class FilterRun:
    """The output of a filter run, and the input that it was made of."""

    def __init__(self, output: Path) -> None:
        """Open a run's output.

        Raises:
            RecipeError: There is no complete run, or none over images.
        """
        self.output = output
        self.manifest = read_manifest(output)
        self._measured = measured_folder(output, self.manifest)
        root = input_folder(self.manifest)
        self.shards = [
            Shard(
                one["shard"],
                root / one["tar"] if one["tar"] else None,
                root / one["parquet"] if one["parquet"] else None,
                one["columns"].get("image") if one["kind"] == "images" else None,
            )
            for one in self.manifest["shards"]
            if one["kind"] != "metadata"
        ]
        if not self.shards:
            raise RecipeError(
                f"{output} must be a run over images, got one over metadata alone; download the "
                "images and filter those"
            )

    def rows(self, shard: Shard) -> pa.Table:
        """Return a shard's rows in the input's order.

        Columns: `uid`, `key`, `caption`, `sha256`, the image's place, `kept` by the run's rules,
        and `captionable`: the image is whole, and nothing but the caption may have been wrong.
        """
        path = self._measured / "columns" / f"{shard.name}.parquet"
        rows = pq.read_table(readable(path), columns=_MEASURED).combine_chunks()
        decided = self.output / "decisions" / f"{shard.name}.parquet"
        decisions = pq.read_table(readable(decided), columns=["reason", "broken"])
        broken = decisions["broken"].to_numpy() & ~np.uint64(self._of_captions)
        missing = pc.fill_null(pc.equal(rows["error"], "caption_missing"), False).to_numpy()
        mendable = broken & ~missing.astype(np.uint64) == 0
        decoded = pc.fill_null(rows["decoded"], False).to_numpy()
        kept = pc.is_null(decisions["reason"]).to_numpy()
        rows = rows.append_column("kept", pa.array(kept))
        return rows.append_column("captionable", pa.array(mendable & decoded))

    def images(self, shard: Shard, rows: pa.Table, at: np.ndarray[Any, Any]) -> Iterator[bytes]:
        """Yield the images of some rows, whose places `at` ascend.

        Raises:
            RecipeError: The input is not there any more.
        """
        try:
            if shard.tar:
                yield from _from_tar(shard.tar, rows.take(pa.array(at)))
            elif shard.parquet and shard.image:
                yield from _from_parquet(shard.parquet, shard.image, at)
        except FileNotFoundError as error:
            raise RecipeError(
                f"input {self.manifest['input']} must still hold what {self.output} was made of, "
                f"got no {error.filename}; bring it back"
            ) from None

    @cached_property
    def _of_captions(self) -> int:
        """The bits of `broken` that stand for rules on the caption alone."""
        recipe = from_dict(self.manifest["recipe"], str(self.output / NAME))
        return sum(1 << bit for bit, rule in enumerate(all_rules(recipe.rules)) if rule.of_caption)


def _from_tar(path: Path, rows: pa.Table) -> Iterator[bytes]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        spans = zip(rows["image_offset"].to_pylist(), rows["image_bytes"].to_pylist(), strict=True)
        for offset, size in spans:
            yield data[offset : offset + size]


def _from_parquet(path: Path, name: str, at: np.ndarray[Any, Any]) -> Iterator[bytes]:
    wanted, row = iter(at.tolist()), 0
    place = next(wanted, None)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_IMAGE_ROWS, columns=[name]):
            column = batch[0].field("bytes") if pa.types.is_struct(batch[0].type) else batch[0]
            while place is not None and place < row + len(batch):
                yield column[place - row].as_py() or b""
                place = next(wanted, None)
            row += len(batch)
