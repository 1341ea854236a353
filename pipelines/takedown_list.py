"""The pairs that somebody asked to take down: their uids, which a run and its reruns go by.

`takedown/uids.parquet` holds the uids only, never what the pairs were.  While a takedown is under
way the list is in `takedown/unfinished.parquet`, and other jobs refuse the output.
"""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from filters.rule import RecipeError
from filters.text import normalise, tokenise
from pipelines import ngrams
from pipelines.exchange import Run
from pipelines.storage import parquet_writer
from recaption.manifest import UNFINISHED
from recaption.stores import readable

ERROR = "taken_down"
"""What a row is in `columns/` that was taken down: it has its uid and its key, and no more."""
LIST = "takedown/uids.parquet"
SCHEMA = pa.schema(
    [("uid", pa.string()), ("asked", pa.string()), ("sha256", pa.string()), ("pairs", pa.int64())]
)
"""When it was asked for (UTC), by a file of which digest, and how many rows had the uid then."""

_UID = "^[0-9a-f]{32}$"


def read_uids(path: Path) -> pa.StringArray:
    """Read uids, each once, sorted: a line each, a parquet's column uid, or DataComp's .npy.

    Raises:
        RecipeError: There are none, or what is there is none.
    """
    try:
        uids = _READERS.get(path.suffix, _read_lines)(path)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise RecipeError(
            f"--uids {path} must be lines of text, a parquet with a column uid, or DataComp's "
            f".npy, got: {told}; correct it"
        ) from None
    fits = pc.fill_null(pc.match_substring_regex(uids, _UID), False)
    if not len(uids) or not pc.all(fits).as_py():
        got = repr(uids.filter(pc.invert(fits))[0].as_py()) if len(uids) else "no uid at all"
        raise RecipeError(
            f"--uids {path} must hold uids, of 32 hexadecimal digits (0-9, a-f), got {got}; copy "
            "them from decisions/ or the report"
        )
    distinct = pc.unique(uids)
    return distinct.take(pc.sort_indices(distinct))


def _read_lines(path: Path) -> pa.StringArray:
    lines = path.read_text(encoding="utf-8").splitlines()
    return pa.array([line.strip() for line in lines if line.strip()], pa.string())


def _read_parquet(path: Path) -> pa.StringArray:
    column = pq.read_table(path, columns=["uid"])["uid"]
    return pc.cast(column, pa.string()).combine_chunks()


def _read_npy(path: Path) -> pa.StringArray:
    stored = np.load(path)
    halves = np.stack([stored["f0"], stored["f1"]], axis=-1).reshape(-1, 2)
    return pa.array([f"{high:016x}{low:016x}" for high, low in halves.tolist()], pa.string())


_READERS = {".parquet": _read_parquet, ".npy": _read_npy}


def file_sha256(path: Path) -> str:
    """Return a file's digest, by which a request is known."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_list(output: Path) -> pa.Table:
    """Return what an output's list holds, that of an unfinished takedown first."""
    for name in (UNFINISHED, LIST):
        if (output / name).exists():
            return pq.read_table(readable(output / name))
    return SCHEMA.empty_table()


def write_list(path: Path, rows: pa.Table) -> None:
    """Write a list, whole or not at all."""
    with parquet_writer(path, SCHEMA) as sink:
        sink.write_table(rows.sort_by("uid"))


def is_listed(uids: pa.Array, listed: pa.Table) -> pa.BooleanArray:
    """Say which uids are on a list."""
    return pc.is_in(uids, listed["uid"].combine_chunks())


def blank(rows: pa.RecordBatch, where: pa.BooleanArray) -> pa.RecordBatch:
    """Leave nothing of some rows but uid and key."""
    places = pa.array(np.arange(len(rows)), mask=where.to_numpy(zero_copy_only=False))
    blanked = rows.take(places)
    error = pc.if_else(where, ERROR, rows["error"])
    for name, values in (("uid", rows["uid"]), ("key", rows["key"]), ("error", error)):
        blanked = blanked.set_column(
            rows.schema.get_field_index(name), rows.schema.field(name), values
        )
    return blanked


def spare(
    run: Run, facts: pa.RecordBatch, words: ngrams.Vocabulary
) -> tuple[pa.RecordBatch, ngrams.Vocabulary]:
    """Keep what was taken down from an output out of a run that fills it anew."""
    where = is_listed(facts["uid"], read_list(run.home))
    if not pc.any(where, min_count=0).as_py():
        return facts, words
    facts = blank(facts, where)
    tokens = tokenise(normalise(facts["caption"]))
    return facts, ngrams.vocabulary(tokens, run.recipe.tables.hash_seed)
