"""Say what a run over a corpus would cost: a table, what dominates, and which bounds are near."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.cost import Constants, Cost, hours, largest, left_on_disk, peak_disk
from pipelines.volumes import Corpus, Volumes

_GIB = 2**30
_GRPC_BYTES = 2**31
"""Protobuf's bound of a message, which gRPC and so every portable Beam runner has."""
_HASHES = 2.0**64
_FAR = 100.0
"""Times the rows of the largest run that was measured."""
_LAYOUT = ("slices", "reads", "squares", "shards")
_SHOWN = 3
_LONG_S = 36_000.0
"""CPU seconds from which on hours are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run is predicted to cost."""

    corpus: Corpus
    volumes: Volumes
    costs: Mapping[str, Cost]
    constants: Constants
    workers: int
    memory_gib: float
    """Of a worker."""
    disk_gib: float
    """Of the output; 0: not told."""
    left_out: Sequence[str] = ()
    """What the recipe asks for beside."""

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU, all stages together."""
        return sum(cost.cpu_s for cost in self.costs.values())

    @property
    def totals(self) -> dict[str, float]:
        """What the stages come to."""
        return {
            "cpu_hours": self.cpu_s / 3600,
            "hours": hours(self.costs, self.workers),
            "sent_bytes": sum(cost.sent_bytes for cost in self.costs.values()),
            "peak_bytes": max(cost.peak_bytes for cost in self.costs.values()),
            "disk_bytes": peak_disk(self.costs),
            "left_bytes": left_on_disk(self.costs),
            "distinct_ngrams": self.volumes["distinct"],
            "table_bytes": self.volumes["table_mb"] * 1e6,
        }


def as_json(estimate: Estimate) -> dict[str, Any]:
    """Return all that is predicted, as JSON can hold it."""
    return {
        "corpus": asdict(estimate.corpus) | {"heaps": estimate.corpus.heaps._asdict()},
        "volumes": estimate.volumes,
        "stages": {stage: cost._asdict() for stage, cost in estimate.costs.items()},
        "totals": estimate.totals,
        "dominant": list(_dominant(estimate)),
        "warnings": list(warnings(estimate)),
        "measured": estimate.constants.measured,
    }


def as_text(estimate: Estimate) -> str:
    """Return a table for people."""
    unit, unit_s = ("h", 3600) if estimate.cpu_s > _LONG_S else ("s", 1)
    heads = f"{'sent GiB':>10}{'writes GiB':>12}{'GiB a task':>12}"
    lines = [f"{'stage':<14}{'CPU ' + unit:>10}{'':>6}{heads}"]
    for stage, cost in estimate.costs.items():
        lines.append(
            f"{stage:<14}{cost.cpu_s / unit_s:>10,.1f}{cost.cpu_s / estimate.cpu_s:>6.0%}"
            f"{cost.sent_bytes / _GIB:>10,.1f}{cost.written_bytes / _GIB:>12,.1f}"
            f"{cost.peak_bytes / _GIB:>12,.2f}"
        )
    measured = estimate.constants.measured
    return "\n".join(
        [
            *lines,
            "",
            *_summary(estimate),
            *(f"most of the time: {what}" for what in _dominant(estimate)),
            *(f"warning: {warning}" for warning in warnings(estimate)),
            f"from runs of up to {measured['rows']:,} rows on {measured['cores']} cores of "
            f"{measured['cpu']}, {measured['date']}, altmill {measured['altmill']}",
        ]
    )


def _summary(estimate: Estimate) -> Iterator[str]:
    totals, heaps = estimate.totals, estimate.corpus.heaps
    yield f"{totals['cpu_hours']:,.1f} CPU hours; {totals['hours']:,.1f} hours with " + (
        f"{estimate.workers:,} workers that are always busy"
    )
    yield (
        f"{totals['sent_bytes'] / _GIB:,.1f} GiB through the exchange, "
        f"{totals['sent_bytes'] / estimate.corpus.rows:,.0f} bytes a row; "
        f"{estimate.volumes['partitions']:,.0f} partitions"
    )
    yield (
        f"{totals['peak_bytes'] / _GIB:,.2f} GiB of memory a worker at most; the table of n-grams, "
        f"{totals['table_bytes'] / _GIB:,.2f} GiB, is one file that all map"
    )
    yield (
        f"{totals['disk_bytes'] / _GIB:,.1f} GiB of disk in the output at a time, "
        f"{totals['left_bytes'] / _GIB:,.1f} in the end"
    )
    yield (
        f"{totals['distinct_ngrams']:,.0f} distinct n-grams, by Heaps' law "
        f"({heaps.factor:.3g} * n ** {heaps.exponent:.3f})"
    )


def _dominant(estimate: Estimate) -> Iterator[str]:
    parts = largest(estimate.constants, estimate.volumes, list(estimate.costs))
    for cpu_s, stage, volume in parts[:_SHOWN]:
        yield f"{cpu_s / estimate.cpu_s:.0%} for {volume.replace('_', ' ')} in {stage}"


def warnings(estimate: Estimate) -> Iterator[str]:
    """Say which bounds a run would come near, and what is not in the prediction."""
    volumes, totals, costs = estimate.volumes, estimate.totals, estimate.costs
    stage = max(costs, key=lambda name: costs[name].peak_bytes)
    if costs[stage].peak_bytes > estimate.memory_gib * _GIB:
        yield (
            f"{stage} takes {costs[stage].peak_bytes / _GIB:,.1f} GiB a task, more than the "
            f"{estimate.memory_gib:g} of a worker; have fewer workers on a machine, or filter the "
            "corpus in parts"
        )
    sender = max(costs, key=lambda name: costs[name].sent_bytes)
    partition = costs[sender].sent_bytes / volumes["partitions"]
    if partition > _GRPC_BYTES:
        rows = _GRPC_BYTES / (costs[sender].sent_bytes / estimate.corpus.rows)
        yield (
            f"a partition of {sender} is {partition / _GIB:,.1f} GiB; with a --runner, gRPC ends "
            f"at 2 GiB, {rows:,.0f} rows a partition"
        )
    if estimate.disk_gib and totals["disk_bytes"] > estimate.disk_gib * _GIB:
        yield (
            f"{totals['disk_bytes'] / _GIB:,.0f} GiB of disk are needed at a time, more than the "
            f"{estimate.disk_gib:,g} that there are"
        )
    collision = totals["distinct_ngrams"] ** 2 / 2 / _HASHES
    if collision > 0.01:
        yield (
            f"two n-grams may have one 64-bit hash (expected: {collision:.2g} pairs); the run "
            "would say so and ask for another tables.hash_seed"
        )
    if estimate.left_out:
        yield f"not in this: {', '.join(estimate.left_out)}"
    yield from _extrapolated(estimate)


def _extrapolated(estimate: Estimate) -> Iterator[str]:
    """Say what makes the prediction less certain, or the run less even."""
    measured, rows = estimate.constants.measured["rows"], estimate.corpus.rows
    if rows > _FAR * measured:
        yield (
            f"{rows / measured:,.0f} times the largest run that was measured: the distinct "
            "n-grams, and what depends on them, are a guess"
        )
    parts = largest(estimate.constants, estimate.volumes, list(estimate.costs))
    layout = sum(cpu_s for cpu_s, _, volume in parts if volume in _LAYOUT) / estimate.cpu_s
    if layout > 0.2:
        yield (
            f"{layout:.0%} of the time goes to the shards' many files and the exchange's small "
            f"pieces; shards of more than {estimate.corpus.shard_rows:,.0f} rows make them fewer"
        )
