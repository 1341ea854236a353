"""A stage as a Beam transform, with either carrier."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam import coders

from pipelines import statistics
from pipelines.bundles import Bundle
from pipelines.exchange import Exchange, Stage, item_name, perform_native
from pipelines.images import isolate
from pipelines.local import perform_all
from recaption.files import write_text

_PIECE_BYTES = 1 << 17
"""Ours: Flink, with 230 MiB to sort in, ended at "Record too large" at pieces of a megabyte."""


class ArrowIpcCoder(coders.Coder):
    """Encode record batches as Arrow IPC; a pickled slice would carry its whole parent."""

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """Return the batch as an IPC stream."""
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
            stream.write_batch(batch)
        return sink.getvalue().to_pybytes()

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """Return the batch of an IPC stream."""
        return pa.ipc.open_stream(encoded).read_next_batch()

    def is_deterministic(self) -> bool:
        """Return whether equal batches have equal bytes; a slice may differ in what is unseen."""
        return False

    def to_type_hint(self) -> type:
        """Return what the coder encodes."""
        return pa.RecordBatch


coders.registry.register_coder(pa.RecordBatch, ArrowIpcCoder)


class Do(beam.PTransform):
    """Run a stage.

    Applied to its items, or, for a stage that reads a channel, to that channel.  Returns a
    dictionary: `results`, pairs of an item's name and its result, and each channel that it sends.

    Args:
        run: The run.
        stage: The stage.
        after: Collections that must be complete before.
    """

    def __init__(self, run: Exchange, stage: Stage, *after: beam.PCollection) -> None:
        super().__init__(label=stage.name)
        self._run, self._stage, self._after = run, stage, after

    def expand(self, source: beam.PCollection) -> Any:  # Beam reads this, and warns of a dictionary
        """Build the stage."""
        after = [beam.pvalue.AsIter(collection) for collection in self._after]
        if self._run.carrier == "native":
            return self._native(source, after)
        stage = self._stage
        items: Any = beam.pvalue.AsList(source)
        if stage.reads:
            after.append(beam.pvalue.AsIter(source))
            items = list(range(self._run.partitions))
        results = (
            source.pipeline
            | "Start" >> beam.Impulse()
            | "Perform" >> beam.ParDo(_PerformAll(self._run, stage), items, *after)
        )
        return {"results": results} | dict.fromkeys(stage.sends, results)

    def _native(
        self, source: beam.PCollection, after: list[beam.pvalue.AsSideInput]
    ) -> dict[str, beam.PCollection]:
        stage = self._stage
        if stage.reads:
            every = [(at, pa.record_batch({})) for at in range(self._run.partitions)]
            typed = beam.Create(every).with_output_types(tuple[int, pa.RecordBatch])
            seeds = source.pipeline | "Partitions" >> typed
            keyed = (source, seeds) | beam.Flatten() | "Exchange" >> beam.GroupByKey()
        else:
            pairs = source | "Key" >> beam.Map(lambda item: (item, ()))
            keyed = pairs | "Spread" >> beam.Reshuffle()
        done = keyed | "Perform" >> beam.ParDo(
            _PerformNative(self._run, stage), *after
        ).with_outputs(*stage.sends, main="results")
        typed = {
            channel: done[channel]
            | channel
            >> beam.Map(lambda parcel: parcel).with_output_types(tuple[int, pa.RecordBatch])
            for channel in stage.sends
        }
        return {"results": done["results"]} | typed


class _PerformAll(beam.DoFn):
    """Runs all items of a stage in local processes; only names and results cross Beam."""

    def __init__(self, run: Exchange, stage: Stage) -> None:
        self._run, self._stage = run, stage

    def process(self, _: bytes, items: list[Any], *__: Any) -> Iterator[tuple[str, Any]]:
        yield from perform_all(self._run, self._stage, sorted(items, key=item_name))


class _PerformNative(beam.DoFn):
    """Runs one item; what it sends crosses Beam."""

    def __init__(self, run: Exchange, stage: Stage) -> None:
        self._run, self._stage = run, stage

    def process(self, keyed: tuple[Any, Iterable[pa.RecordBatch]], *_: Any) -> Iterator[Any]:
        item, received = keyed
        batches = (batch for batch in received if batch.num_columns)
        with _careful(self._run, self._stage, item):
            result, parcels = perform_native(self._run, self._stage, item, batches)
        yield item_name(item), result
        for channel, sent in parcels.items():
            for at, batch in sent:
                for piece in _pieces(batch):
                    yield beam.pvalue.TaggedOutput(channel, (at, piece))


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into pieces that a runner can hold, whatever memory it sorts them in."""
    rows = max(1, len(batch) * _PIECE_BYTES // max(1, batch.nbytes))
    for first in range(0, len(batch), rows):
        yield batch.slice(first, rows)


@contextmanager
def _careful(run: Exchange, stage: Stage, item: Any) -> Iterator[None]:
    """Isolate a bundle's images if an attempt at it has begun before, and has not ended.

    An image may have brought down the worker, and would bring down each that tries again.
    """
    if not isinstance(item, Bundle):
        yield
        return
    begun = run.work / "begun" / stage.name / item.name
    isolate(begun.exists())
    write_text(begun, "")
    yield
    begun.unlink(missing_ok=True)  # another attempt may have


class AddUp(beam.CombineFn):
    """Adds up what stages found."""

    def create_accumulator(self) -> dict[str, Any]:
        """Return nothing found."""
        return {}

    def add_input(self, total: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
        """Add one finding."""
        statistics.add_to(total, found)
        return total

    def merge_accumulators(self, totals: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Add up sums."""
        return statistics.add(totals)

    def extract_output(self, total: dict[str, Any]) -> dict[str, Any]:
        """Return the sum."""
        return total
