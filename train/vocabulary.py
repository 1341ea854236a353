"""The vocabulary of a run: named, or learnt from captions, or from words counted before."""

import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from filters.rule import RecipeError
from recaption.manifest import measured_folder, read_manifest
from recaption.stores import readable, to_path
from recaption.wordpiece import Tokenizer, count_words, train_wordpiece
from train.index import Data
from train.settings import Vocabulary

MAX_WORDS = 1_000_000
"""Words of a filter run at most, the most frequent ones; a vocabulary of 100,000 needs no more."""


def make_tokenizer(
    settings: Vocabulary, sources: Sequence[Path], data: Data, max_tokens: int
) -> Tokenizer:
    """Read the vocabulary that is named, or learn one.

    Args:
        settings: Of the vocabulary.
        sources: Folders to learn from.
        data: What is learnt from, of them.
        max_tokens: Of a caption.

    Raises:
        RecipeError: The file is no vocabulary, or the words were to come from filter runs and a
            folder is none.
    """
    if settings.path:
        return Tokenizer.load(to_path(settings.path), max_tokens)
    words = count_tables(sources) if settings.words == "tables" else count_words(captions_of(data))
    return Tokenizer(train_wordpiece(words, settings.size), max_tokens)


def captions_of(data: Data) -> Iterator[str]:
    """Yield all captions that may be learnt from, of all kinds."""
    for unit in data.units:
        with pq.ParquetFile(unit.index) as file:
            table = file.read_row_group(unit.index_group)
        for name in data.captions.names:
            yield from pc.list_flatten(table[f"caption {name}"]).to_pylist()


def count_tables(runs: Sequence[Path]) -> Counter[str]:
    """Return how often words occur in the raw captions of filter runs, as the runs counted them.

    A run's words have no marks.  Each mark of ASCII is counted as often as the most frequent word,
    so that it has a token, and teaches nothing else.

    Raises:
        RecipeError: A folder holds no filter run.
    """
    counts: Counter[str] = Counter()
    for folder in runs:
        for word, count in _unigrams(folder):
            for part, times in count_words([word]).items():
                counts[part] += times * count
    most = max(counts.values(), default=1)
    return counts + Counter(dict.fromkeys(string.punctuation, most))


def _unigrams(folder: Path) -> Iterable[tuple[str, int]]:
    if not (folder / "manifest.json").exists():
        raise RecipeError(
            f'vocabulary.words = "tables" must have filter runs to learn from, got {folder}, which '
            'is none; set vocabulary.words = "captions"'
        )
    tables = measured_folder(folder, read_manifest(folder)) / "tables" / "ngrams"
    left = MAX_WORDS
    for path in sorted(tables.glob("*.parquet")):  # by rank
        table = pq.read_table(readable(path), columns=["ngram", "count"])
        single = pc.invert(pc.match_substring(table["ngram"], " "))
        some = table.filter(single).slice(0, left)
        yield from zip(some["ngram"].to_pylist(), some["count"].to_pylist(), strict=True)
        left -= len(some)
