"""Read a shard's images, or its json members, a second time."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.inputs import Shard
from pipelines.rows import mapped, read_image_column, read_json
from pipelines.tars import read_members, samples
from recaption.spans import Spans
from recaption.stores import StorePath


def read_fields(shard: Shard) -> dict[str, dict[str, Any]]:
    """Read the json members of a tar shard, by key."""
    with mapped(shard.tar) as data:
        found = samples(read_members(data, []) if shard.tar else ())
        return {sample.key: read_json(data, sample) for sample in found}


class ImageReader:
    """Read some rows' images again, going forward through a shard.

    Of a tar in an object store `few` rows are read alone; else the tar is copied first.
    """

    def __init__(self, shard: Shard, *, few: bool = False) -> None:
        self._shard = shard
        self._stack = ExitStack()
        self._data: Any = (
            Spans(shard.tar)
            if few and isinstance(shard.tar, StorePath)
            else self._stack.enter_context(mapped(shard.tar))
        )
        self._column = enumerate(read_image_column(shard))

    def __enter__(self) -> "ImageReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, rows: NDArray[np.int64], places: pa.RecordBatch) -> Iterator[bytes]:
        """Yield images.

        Args:
            rows: The rows' places in the shard, ascending, after all that were read before; each
                row must have an image.
            places: Their measured columns `image_offset` and `image_bytes`.
        """
        if self._shard.kind == "images":
            for row in rows.tolist():
                yield next(image for at, image in self._column if at == row) or b""
            return
        spans = (places["image_offset"].to_pylist(), places["image_bytes"].to_pylist())
        for offset, size in zip(*spans, strict=True):
            yield bytes(self._data[offset : offset + size])
