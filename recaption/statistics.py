"""Count what a choice of captions did, shard by shard, in bounded memory."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from filters.text import normalise, text_keys, tokenise

_BINS = 1000
"""Of raw scores, from which deciles are read."""


class Tally:
    """What is known of the captions seen so far."""

    def __init__(self, itm: float) -> None:
        """Take the probability from which on the filter calls a caption matched."""
        self._itm = itm
        self._rows: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._by_score = np.zeros((2, _BINS), np.int64)
        self._texts = {"raw": _Texts(), "synthetic": _Texts()}
        self._copies = 0

    def add(self, table: pa.Table) -> None:
        """Count a shard's rows, as `captions.SCHEMA`, chosen."""
        asked = table.filter(table["asked"])
        each = asked["candidates"].combine_chunks().flatten()
        works = each.filter(pc.is_null(each.field("failure")))
        raw, synthetic = asked["raw_itm"].drop_null(), works.field("itm").drop_null()
        chosen = pc.is_valid(table["chosen"])
        self._rows.update(
            rows=len(table),
            asked=len(asked),
            kept_before=_true(table["kept"]),
            kept=_true(chosen),
            replaced=_true(pc.and_(table["kept"], pc.equal(table["origin"], "synthetic"))),
            rescued=_true(pc.and_(pc.invert(table["kept"]), chosen)),
            lost=_true(pc.and_(table["kept"], pc.invert(chosen))),
            both=_true(pc.and_(table["keeps_raw"], table["keeps_synthetic"])),
            candidates=len(each),
            raw_scored=len(raw),
            raw_matched=_true(pc.greater_equal(raw, self._itm)),
            synthetic_scored=len(synthetic),
            synthetic_matched=_true(pc.greater_equal(synthetic, self._itm)),
        )
        self._failures.update(value for value in each.field("failure").to_pylist() if value)
        self._add_deciles(asked)
        self._add_texts(asked)

    def _add_deciles(self, asked: pa.Table) -> None:
        known = asked.filter(pc.and_(asked["kept"], pc.is_valid(asked["raw_itm"])))
        at = np.minimum((known["raw_itm"].to_numpy() * _BINS).astype(int), _BINS - 1)
        replaced = pc.fill_null(pc.equal(known["origin"], "synthetic"), False).to_numpy()
        self._by_score[0] += np.bincount(at, minlength=_BINS)
        self._by_score[1] += np.bincount(at[replaced], minlength=_BINS)

    def _add_texts(self, asked: pa.Table) -> None:
        lists = asked["candidates"].combine_chunks()
        each, rows = lists.flatten(), pc.list_parent_indices(lists)
        works = pc.is_null(each.field("failure"))
        texts, of = each.field("text").filter(works), rows.filter(works)
        raw = asked["raw"].combine_chunks()
        same = pc.equal(text_keys(normalise(texts)), text_keys(normalise(raw.take(of))))
        self._copies += _true(same)
        self._texts["raw"].add(raw.filter(asked["kept"].combine_chunks()).drop_null())
        self._texts["synthetic"].add(texts)

    def told(self) -> dict[str, Any]:
        """Return the statistics, as plain values; shares are of 1, and None where of nothing."""
        rows = self._rows
        return {
            **dict(sorted(rows.items())),
            "raw_acceptance": _share(rows["raw_matched"], rows["raw_scored"]),
            "synthetic_acceptance": _share(rows["synthetic_matched"], rows["synthetic_scored"]),
            "copied_from_raw": _share(self._copies, self._texts["synthetic"].count),
            "failures": dict(sorted(self._failures.items())),
            "replaced_by_raw_score": self._deciles(),
            "texts": {name: texts.told() for name, texts in self._texts.items()},
        }

    def _deciles(self) -> list[dict[str, Any]]:
        """Return the share of raw captions replaced, by tenths of the raw score, lowest first."""
        total, replaced = self._by_score
        ends = np.cumsum(total)
        tenth = np.minimum(np.maximum(ends - 1, 0) * 10 // max(1, ends[-1]), 9)
        deciles = []
        for number in range(10):
            here = (tenth == number) & (total > 0)
            if here.any():
                bins = np.flatnonzero(here)
                deciles.append(
                    {
                        "from": float(bins[0] / _BINS),
                        "to": float((bins[-1] + 1) / _BINS),
                        "pairs": int(total[here].sum()),
                        "replaced": _share(int(replaced[here].sum()), int(total[here].sum())),
                    }
                )
        return deciles


class _Texts:
    """How long and how diverse some captions are."""

    def __init__(self) -> None:
        self.count = 0
        self._words = 0
        self._grams = {2: 0, 3: 0}
        self._distinct = {0: Distinct(), 2: Distinct(), 3: Distinct()}

    def add(self, texts: pa.Array) -> None:
        """Count captions."""
        keys, tokens = text_keys(normalise(texts)), tokenise(normalise(texts))
        self.count += len(texts)
        self._words += len(tokens.texts)
        self._distinct[0].add(_hashes(keys))
        words, of = _hashes(tokens.texts), tokens.rows
        grams = words
        for size in (2, 3):
            same = of[size - 1 :] == of[: len(of) - size + 1]
            grams = _mixed(grams[:-1] * np.uint64(3) + words[size - 1 :])
            self._grams[size] += int(same.sum())
            self._distinct[size].add(grams[same])

    def told(self) -> dict[str, Any]:
        """Return the counts."""
        unique, bigrams, trigrams = (self._distinct[n].count() for n in (0, 2, 3))
        return {
            "captions": self.count,
            "mean_words": _share(self._words, self.count),
            "unique": unique,
            "distinct_2": _share(bigrams, self._grams[2]),
            "unique_trigrams": trigrams,
        }


class Distinct:
    """How many distinct hashes there are: exact up to 65,536, then to about 0.4 %.

    The estimate is from the smallest 65,536 of them.  Source: Bar-Yossef et al., "Counting distinct
    elements in a data stream", RANDOM 2002.
    """

    _MOST = 1 << 16

    def __init__(self) -> None:
        self._smallest = np.empty(0, np.uint64)
        self._full = False

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Take more of them."""
        every = np.unique(np.concatenate([self._smallest, hashes]))
        self._full |= len(every) > self._MOST
        self._smallest = every[: self._MOST]

    def count(self) -> int:
        """Return how many there are."""
        if not self._full:
            return len(self._smallest)
        return round((self._MOST - 1) / (float(self._smallest[-1]) / 2**64))


def _hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """Return 64-bit hashes, evenly spread, of texts."""
    known = pc.dictionary_encode(pc.fill_null(texts, ""))
    each = [
        xxhash.xxh3_64_intdigest((text or "").encode()) for text in known.dictionary.to_pylist()
    ]
    return np.array(each, np.uint64)[known.indices.to_numpy(zero_copy_only=False)]


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread numbers evenly.  Source: the finaliser of SplitMix64."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ numbers >> np.uint64(shift)) * np.uint64(factor)
    return numbers ^ numbers >> np.uint64(31)


def _true(column: Any) -> int:
    return int(pc.sum(pc.fill_null(column, False), min_count=0).as_py())


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
