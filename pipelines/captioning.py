"""Recaption on a Beam runner: each shard is one element, and its rows are as without Beam."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam

from recaption.choice import choose_all
from recaption.filter_run import FilterRun
from recaption.opening import captioner_of, scorer_of
from recaption.settings import Settings
from recaption.shards import generate_shard, score_shard


@dataclass(frozen=True, slots=True)
class Captioning:
    """What is to be captioned, by whom."""

    output: Path
    """Of a filter run."""
    settings: Settings
    captioner: str = ""
    scorer: str = ""
    """Names; empty: what was trained on the run."""
    device: str = ""
    accelerator: str = ""
    """Of the workers that write captions, as Dataflow calls it; empty: none is asked for."""


def caption_corpus(shards: beam.PCollection, job: Captioning) -> beam.PCollection:
    """Write captions, score and choose them: from shards' names to how many were written."""
    hints = {"accelerator": job.accelerator} if job.accelerator else {}
    write = beam.ParDo(_Caption(job)).with_resource_hints(**hints)
    written = shards | "Spread" >> beam.Reshuffle() | "Caption" >> write
    return written | beam.CombineGlobally(sum) | "Choose" >> beam.Map(_choose, job)


def _choose(images: int, job: Captioning) -> int:
    choose_all(FilterRun(job.output), job.settings.choose)
    return images


class _Caption(beam.DoFn):
    """Writes and scores a shard's captions, with models that are opened once."""

    def __init__(self, job: Captioning) -> None:
        self._job = job

    def setup(self) -> None:
        """Open the models."""
        job = self._job
        self._run = FilterRun(job.output)
        self._captioner = captioner_of(self._run, job.settings, job.captioner, job.device)
        self._scorer = scorer_of(self._run, job.scorer, job.device)

    def process(self, name: str) -> Iterator[int]:
        """Yield how many images captions were written for."""
        shard = next(shard for shard in self._run.shards if shard.name == name)
        of_kept = self._job.settings.of_kept
        images = generate_shard(self._run, shard, self._captioner, of_kept=of_kept)
        score_shard(self._run, shard, self._scorer)
        yield images
