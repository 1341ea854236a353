"""A table of 100 million n-grams: counted, cut, checked by GNU sort, and looked up by workers."""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.plan import read_recipe
from recaption.files import read_json
from recaption.manifest import read_manifest
from tests.bench import corpus
from tests.bench.ours import run_timed_filter
from tests.bench.table_readers import measure_readers
from tests.bench.usage import NOTHING, watched

WORDS = 20.0
"""Of a caption: many words to a row."""
WORDS_PER_ROW = 3
"""To draw from: bigrams of rare words are nearly always new, whatever the size."""
SHARD_ROWS = 250_000
READERS = 4
_GIB = 2**30
_SORT_MIB = 3072
_NGRAMS = r"""
{ sub(/\.$/, ""); line = tolower(substr($0, 1, 1)) substr($0, 2); n = split(line, word, " ")
  for (i = 1; i <= n; i++) { print word[i]; if (i > 1) print word[i - 1] " " word[i] } }
"""


class Table(NamedTuple):
    """The end of a list of n-grams, and a digest of all of it: a line is its count, tab, name."""

    listed: int
    last: str
    digest: str


def measure_table(folder: Path, rows: int, most: int) -> Iterator[str]:
    """Yield what a table of the `most` commonest n-grams costs, and whether it is right.

    Args:
        folder: To work in; 2 KB a row at a time.
        rows: Captions, of 20 words.
        most: N-grams to keep.
    """
    source, output = folder / "captions", folder / "out"
    maker = get_context("spawn").Process(target=_make, args=(source, rows))
    maker.start()
    maker.join()
    changes = (f"tables.max_ngrams={most}", f"rules.ngram_rank.max_inclusive={most}")
    recipe = read_recipe("align", changes)
    with watched(os.getpid()) as memory:
        spent = run_timed_filter(source, output, recipe, workers=2, language=False)
    total, counted = sum(spent.values(), NOTHING), read_manifest(output)["tables"]["ngrams"]
    yield (
        f"{rows:,} captions, {counted['occurrences']:,} unigrams and bigrams, "
        f"{counted['distinct']:,} distinct, {counted['listed']:,} listed"
    )
    yield f"{total.wall:12,.0f} s, {total.cpu:,.0f} s of CPU for the whole job"
    for part in ("read", "count", "rank", "measure"):
        yield f"{spent[part].wall:12,.0f} s, {spent[part].cpu:,.0f} s of CPU: {part}"
    yield f"{memory.largest / _GIB:12.2f} GiB of memory, the most of any one process"
    stages = read_json(output / "run.json")["stages"]
    sent = sum(used.get("sent_bytes", 0.0) for used in stages.values())
    yield f"{sent / rows:12,.0f} bytes sent a row"
    lookup = output / "tables" / "lookup"
    for name, files in (("table", lookup.glob("ngrams.*")), ("list", _parts(output))):
        size = sum(path.stat().st_size for path in files)
        yield f"{size / counted['listed']:12.2f} bytes of disk per n-gram of the {name}"
    for kept in (output / "columns", output / "decisions"):
        shutil.rmtree(kept)
    yield from measure_readers(output, counted["listed"], READERS)
    ours = list_of(output)
    yield f"{ours.last!r}, last of {ours.listed:,}; SHA-256 of the list {ours.digest[:16]}"
    before = time.monotonic()
    theirs, distinct = sort_externally(source, folder / "sorted", most)
    same = theirs == ours and distinct == counted["distinct"]
    yield (
        f"GNU sort: {theirs.last!r}, last of {theirs.listed:,} of {distinct:,}; "
        f"{theirs.digest[:16]}; {time.monotonic() - before:,.0f} s: "
        + ("THE SAME LIST" if same else "ANOTHER LIST")
    )


def list_of(output: Path) -> Table:
    """Describe the list of n-grams that a run left."""
    digest, listed, last = hashlib.sha256(), 0, ""
    for path in sorted(_parts(output)):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["ngram", "count"]):
                names = pc.cast(batch["ngram"], "string")
                counts = pc.cast(batch["count"], "string")
                lines = pc.binary_join_element_wise(counts, names, "\t").to_pylist()
                digest.update(("\n".join(lines) + "\n").encode())
                listed, last = listed + len(lines), lines[-1]
    return Table(listed, last, digest.hexdigest())


def sort_externally(source: Path, folder: Path, most: int) -> tuple[Table, int]:
    """Count the n-grams of the captions by awk, GNU sort and uniq; return the list, and all."""
    folder.mkdir()
    environment = os.environ | {"LC_ALL": "C", "TMPDIR": str(folder)}
    sort = f"sort --parallel=2 -S {_SORT_MIB}M --compress-program=lz4"
    counted = folder / "counted"
    numbered = "sed -E 's/^ *([0-9]+) /\\1\\t/'"
    script = f"mawk '{_NGRAMS}' | {sort} | uniq -c | {numbered} | lz4 -q > {counted}"
    command = ["bash", "-ceuo", "pipefail", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as done:
        assert done.stdin is not None  # for the type checker
        for path in sorted(source.glob("*.parquet")):
            captions = pq.read_table(path, columns=["caption"])["caption"].to_pylist()
            done.stdin.write(("\n".join(captions) + "\n").encode())
        done.stdin.close()
    if done.returncode:
        raise RuntimeError(f"the external sort must end well, got exit code {done.returncode}")
    script = f"lz4 -dcq {counted} | {sort} -t '\t' -k1,1nr -k2"
    command = ["bash", "-ceuo", "pipefail", script]
    digest, distinct, last = hashlib.sha256(), 0, b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as ranked:
        assert ranked.stdout is not None  # for the type checker
        for line in ranked.stdout:
            distinct += 1
            if distinct <= most:
                digest.update(line)
                last = line
    if ranked.returncode:
        raise RuntimeError(f"the external sort must end well, got exit code {ranked.returncode}")
    shutil.rmtree(folder)
    listed = min(most, distinct)
    return Table(listed, last.decode().rstrip("\n"), digest.hexdigest()), distinct


def _make(source: Path, rows: int) -> None:
    corpus.write_captions(source, rows, SHARD_ROWS, words=WORDS, vocabulary=WORDS_PER_ROW * rows)


def _parts(output: Path) -> Iterator[Path]:
    return (output / "tables" / "ngrams").glob("*.parquet")
