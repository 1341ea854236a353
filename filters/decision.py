"""Decide: the first broken rule of each row, and all broken ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.intact import Intact
from filters.rule import Rule

SCHEMA = pa.schema(
    [
        ("reason", pa.string()),
        ("value", pa.string()),
        ("threshold", pa.string()),
        ("broken", pa.uint64()),
    ]
)
"""What `judge` returns.  `broken` has bit 0 for `intact` and bit i for the recipe's i-th rule."""


_OK, _UNKNOWN = "ok", "unknown, so not broken"


def all_rules(rules: Sequence[Rule]) -> list[Rule]:
    """Return the rules in the order of judging: the built-in `intact`, then the recipe's."""
    return [Intact(), *rules]


def judge(columns: pa.RecordBatch, rules: Sequence[Rule]) -> pa.RecordBatch:
    """Judge rows by all rules, as `SCHEMA`; a null reason means keep.

    The reason is the first broken rule's; the value and the threshold are what decided.
    """
    rows = len(columns)
    broken = np.zeros(rows, np.uint64)
    found = {name: pa.nulls(rows, pa.string()) for name in ("reason", "value", "threshold")}
    for bit, rule in enumerate(all_rules(rules)):
        reasons = rule(columns)
        hit = pc.is_valid(reasons)
        broken |= hit.to_numpy(zero_copy_only=False).astype(np.uint64) << np.uint64(bit)
        first = pc.and_(hit, pc.is_null(found["reason"]))
        if not pc.any(first).as_py():
            continue
        limits = {limit.reason: f"{rule.subject} {limit}" for limit in rule.limits()}
        judged = columns.filter(first)
        found["value"] = pc.replace_with_mask(found["value"], first, rule.shown(judged))
        found["threshold"] = pc.replace_with_mask(
            found["threshold"],
            first,
            pa.array(map(limits.get, reasons.filter(first).to_pylist()), pa.string()),
        )
        found["reason"] = pc.if_else(first, reasons, found["reason"])
    return pa.record_batch([*found.values(), pa.array(broken)], schema=SCHEMA)


class Verdict(NamedTuple):
    """What a rule says of a row, as a person reads it."""

    rule: str
    value: str | None
    verdict: str
    """The reason, `ok`, or that the value is unknown."""


def verdicts_of(columns: pa.RecordBatch, rules: Sequence[Rule]) -> list[list[Verdict]]:
    """Return what every rule says of each row, in the order of judging."""
    told: list[list[Verdict]] = [[] for _ in range(len(columns))]
    for rule in all_rules(rules):
        answers = rule.knows_null or any(limit.op == "is null" for limit in rule.limits())
        known = pc.is_valid(rule.values(columns)).to_pylist()
        each = zip(
            told, rule(columns).to_pylist(), rule.shown(columns).to_pylist(), known, strict=True
        )
        for row, reason, value, is_known in each:
            fine = is_known or answers or rule.name == "language"
            shown = value or ("none" if answers else None)
            row.append(Verdict(rule.name, shown, reason or (_OK if fine else _UNKNOWN)))
    return told
