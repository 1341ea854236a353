"""Take the hashes of names that are gone out of the lookups; `explain` knows them no more."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.count import hash128
from pipelines.exchange import Run, Send
from pipelines.lookup import DIGESTS, FILES, lookup_folder, lookup_path
from pipelines.storage import join_parts
from pipelines.takedown_tasks import gone_names, gone_ranks
from recaption.files import read_json, write_json


def rewrite_lookups(run: Run, _: int, __: Iterator[pa.RecordBatch], ___: Send) -> dict[str, Any]:
    """Write the lookups that have such names without them, beside the old ones."""
    stays = {
        "ngrams": ~np.isin(_stored(run, "ngrams.ranks"), gone_ranks(run)),
        "texts": _others(run, "texts", gone_names(run, "text")),
        "images": _others(run, "images", gone_names(run, "image")),
    }
    digests = read_json(lookup_folder(run.home) / DIGESTS)
    for channel, names in FILES.items():
        left = stays[channel]
        for name in () if left.all() else names:
            stored = _stored(run, f"{channel}.{name}")
            path = lookup_path(run.output, f"{channel}.{name}")
            part = partial(np.compress, left, stored)
            digests[path.name] = join_parts(path, stored.dtype, [part]).xxh3_128
    write_json(lookup_folder(run.output) / DIGESTS, digests)
    return {}


def put_lookups(run: Run) -> None:
    """Put what was written in the place of the old."""
    for path in lookup_folder(run.output).glob("*"):
        path.replace(lookup_folder(run.home) / path.name)


def _others(run: Run, channel: str, names: pa.StringArray) -> NDArray[np.bool_]:
    """Say which of the stored keys are not those of some names."""
    high, low = (_stored(run, f"{channel}.{half}") for half in ("high", "low"))
    gone = {*zip(*(half.tolist() for half in hash128(names)), strict=True)}
    stays = np.ones(len(high), bool)
    for at in np.flatnonzero(np.isin(high, hash128(names)[0])).tolist():
        stays[at] = (int(high[at]), int(low[at])) not in gone
    return stays


def _stored(run: Run, name: str) -> NDArray[Any]:
    path: Path = lookup_path(run.home, name)
    return np.load(path, mmap_mode="r")
