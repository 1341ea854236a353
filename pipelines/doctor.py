"""Check shards before somebody trains on them, and say in a line each what is wrong with them."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.ailments import AILMENTS, ERROR, FATAL_WHEN_ALL, SEVERITIES
from pipelines.checkup import Check, check_shard, key_of
from pipelines.findings import Checkup
from pipelines.local import spread
from pipelines.page import inert
from pipelines.shard_paths import find_shard_files
from recaption.stores import to_path

_EXAMPLE_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    severity: str
    rule: str
    count: int
    of: int
    what: str
    example: str
    advice: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found in some shards."""

    shards: int
    samples: int
    pairs: int
    """Samples with an image and a caption."""
    looked_at: int
    """Samples whose image was decoded."""
    findings: list[Finding]
    """The worst first."""

    @property
    def breaks_training(self) -> bool:
        """Whether there is an error among the findings."""
        return any(finding.severity == ERROR for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def diagnose(
    sources: Sequence[str], caption: str = "txt", sample: int = 200, seed: int = 0, workers: int = 1
) -> Diagnosis:
    """Check shards.

    Args:
        sources: See `shard_paths.find_shard_files`.
        caption: The member, or a parquet's column, with the captions.
        sample: Images to decode in all; as many of each shard.
        seed: Of the choice of these.
        workers: Processes.

    Raises:
        InputError: There is no shard.
    """
    shards, missing = find_shard_files(sources)
    check = Check(caption, -(-sample // len(shards)), seed)
    checkups = list(spread(partial(check_shard, check), list(shards.values()), workers, "checks"))
    found = _gathered(checkups, missing)
    counts = {
        "samples": sum(one.samples for one in checkups),
        "shards": len(shards) + len(missing),
        "images": sum(one.looked_at for one in checkups),
        "files": 0,
    }
    findings = [
        _finding(rule, *found[rule], counts[AILMENTS[rule].of], caption)
        for rule in AILMENTS
        if rule in found
    ]
    pairs = sum(one.pairs for one in checkups)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Diagnosis(len(shards), counts["samples"], pairs, counts["images"], findings)


def told(diagnosis: Diagnosis) -> str:
    """Say it in lines."""
    head = (
        f"{diagnosis.pairs:,} of {diagnosis.samples:,} samples in {diagnosis.shards:,} shards are "
        f"pairs of an image and a caption; {diagnosis.looked_at:,} images were decoded"
    )
    lines = [
        f"{one.severity:<8} {one.rule:<18} {one.what}"
        + (f", such as {one.example}" if one.example else "")
        + f"; {one.advice}"
        for one in diagnosis.findings
    ]
    return "\n".join([head, *lines] if lines else [head, "nothing is wrong with them"])


def told_as_json(diagnosis: Diagnosis) -> str:
    """Say it as JSON."""
    return json.dumps(diagnosis.as_dict(), indent=1)


def _gathered(checkups: Sequence[Checkup], missing: Sequence[Path]) -> dict[str, tuple[int, str]]:
    """Return how often each ailment was found, with an example of it."""
    found: dict[str, tuple[int, str]] = {}
    for checkup in checkups:
        for rule, (count, example) in checkup.found.items():
            where = ": ".join(part for part in (Path(checkup.shard).name, example) if part)
            before, first = found.get(rule, (0, where))
            found[rule] = (before + count, first)
    if missing:
        found["shard_missing"] = (len(missing), str(missing[0]))
    return found | dict(_across(checkups))


def _across(checkups: Sequence[Checkup]) -> Iterator[tuple[str, tuple[int, str]]]:
    """Yield what only a look at all shards tells."""
    kinds = sum((one.kinds for one in checkups), Counter[str]())
    others = sum((one.others for one in checkups), Counter[str]())
    for rule, counts in (("image_kinds", kinds), ("members_differ", others)):
        (_, most), *rest = counts.most_common() or [("", 0)]
        if rest:
            listed = "; ".join(f"{name or 'none'} {n:,}" for name, n in counts.most_common(4))
            yield rule, (counts.total() - most, listed)
    yield from _shared_keys(checkups)


def _shared_keys(checkups: Sequence[Checkup]) -> Iterator[tuple[str, tuple[int, str]]]:
    keys = np.concatenate([one.keys for one in checkups])
    shards = np.repeat(np.arange(len(checkups)), [len(one.keys) for one in checkups])
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    shared = np.unique(keys[order][again])
    if len(shared):
        one, two = (to_path(checkups[shards[order[at]]].shard) for at in (again[0], again[0] + 1))
        key = key_of(one, int(shared[0]))
        where = " and ".join("/".join(path.parts[-2:]) for path in (one, two))
        yield "key_in_shards", (len(shared), f"{key} in {where}")


def _finding(rule: str, count: int, example: str, of: int, caption: str) -> Finding:
    ailment = AILMENTS[rule]
    fatal = rule in FATAL_WHEN_ALL and count >= of
    numbers = {"count": f"{count:,}", "of": f"{of:,}", "rest": f"{of - count:,}"}
    return Finding(
        ERROR if fatal else ailment.severity,
        rule,
        count,
        of,
        ailment.what.format(**numbers, caption=caption),
        inert(example, _EXAMPLE_CHARACTERS),
        ailment.advice,
    )
