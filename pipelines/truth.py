"""Hold captions against the truth that a sample corpus has planted: what each scene shows."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.classes import Classes, classes_of
from recaption.captions import captions_path
from recaption.filter_run import FilterRun

WHOSE = ("raw", "synthetic", "chosen")


class Slots(NamedTuple):
    """The colours and shapes, or classes, that captions name, and how many of them are true."""

    said: int
    true: int


def compare(run: FilterRun) -> dict[str, Any] | None:
    """Return how captions fare by kind of noise; None where the input has no truth planted.

    Returns:
        `kinds`, by noise, "clean" first: pairs asked, what became of them, and the precision of
        what raw, synthetic and chosen captions name, colours and shapes or classes; `precision` of
        all pairs;
        `auc`: how often the filter thinks a clean raw caption likelier matched than one of another
        kind, by kind.
    """
    if not run.shards or not all(_is_planted(shard.parquet) for shard in run.shards):
        return None
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    slots: dict[str, dict[str, Slots]] = defaultdict(lambda: dict.fromkeys(WHOSE, Slots(0, 0)))
    scores: dict[str, list[float]] = defaultdict(list)
    for shard in run.shards:
        assert shard.parquet is not None  # as it is planted
        classes = classes_of(shard.parquet.parent)
        columns = ["key", "noise", *classes.columns]
        truth = {
            row["key"]: row for row in pq.read_table(shard.parquet, columns=columns).to_pylist()
        }
        table = pq.read_table(captions_path(run.output, shard.name))
        for row in table.filter(table["asked"]).to_pylist():
            planted = truth[row["key"]]
            kind = planted["noise"]
            counts[kind].update(_fate(row))
            if row["raw_itm"] is not None:
                scores[kind].append(row["raw_itm"])
            winner = None if row["winner"] is None else row["candidates"][row["winner"]]["text"]
            for whose, text in zip(WHOSE, (row["raw"], winner, row["chosen"]), strict=True):
                slots[kind][whose] = _added(slots[kind][whose], _slots(text, planted, classes))
    order = sorted(counts, key=lambda kind: (kind != "clean", -counts[kind]["asked"], kind))
    kinds = [
        {"noise": kind, **counts[kind]} | {who: _precision(slots[kind][who]) for who in WHOSE}
        for kind in order
    ]
    every = {who: _total(slots[kind][who] for kind in order) for who in WHOSE}
    clean = np.array(scores.pop("clean", []))
    return {
        "kinds": kinds,
        "precision": {who: _precision(total) for who, total in every.items()},
        "auc": {kind: auc(clean, np.array(scores[kind])) for kind in order if scores.get(kind)},
    }


def auc(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> float | None:
    """Return how often a positive is above a negative; ties count half."""
    if not len(positives) or not len(negatives):
        return None
    below = np.sort(negatives)
    wins = np.searchsorted(below, positives, "left") + np.searchsorted(below, positives, "right")
    return float(wins.sum() / 2 / len(positives) / len(negatives))


def _is_planted(path: Path | None) -> bool:
    if path is None:
        return False
    return {"key", "noise", *classes_of(path.parent).columns} <= set(pq.read_schema(path).names)


def _fate(row: dict[str, Any]) -> dict[str, int]:
    origin = row["origin"]
    return {"asked": 1, "kept_before": row["kept"]} | {
        "stays_raw": origin == "raw",
        "gets_synthetic": origin == "synthetic",
        "goes": origin is None,
    }


def _slots(text: str | None, planted: dict[str, Any], classes: Classes) -> Slots:
    said = [
        name == planted[column]
        for column, names in zip(classes.columns, classes.named(text), strict=True)
        for name in names
    ]
    return Slots(len(said), sum(said))


def _added(one: Slots, other: Slots) -> Slots:
    return Slots(one.said + other.said, one.true + other.true)


def _total(several: Any) -> Slots:
    total = Slots(0, 0)
    for one in several:
        total = _added(total, one)
    return total


def _precision(slots: Slots) -> float | None:
    return slots.true / slots.said if slots.said else None
