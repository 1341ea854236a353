"""Find the shards to learn from: a filter run's input and captions, or shards of anybody's."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from filters.rule import RecipeError
from pipelines.inputs import InputError, find_shards
from recaption.captions import captions_path
from recaption.filter_run import FilterRun
from recaption.manifest import NAME as MANIFEST
from recaption.manifest import measured_folder


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of images, and where its captions are."""

    name: str
    """The place of its source among all, and its own name there."""
    path: Path
    image: str | None
    """A parquet's column of images; None: it is a tar."""
    caption: str | None = None
    """A parquet's column of captions, and `key` that of keys, where it has them."""
    key: str | None = None
    status: str | None = None
    """A parquet's column that says whether the image was downloaded."""
    run: Path | None = None
    """The filter run that decided on it, in which it is called `of_run`."""
    of_run: str = ""

    @property
    def run_output(self) -> Path:
        """The filter run's output, where there is one."""
        if self.run is None:
            raise ValueError(f"{self.name} is of no filter run")
        return self.run

    @property
    def files(self) -> list[Path]:
        """The files that an index is made of, if they are there; the images' first."""
        if self.run is None:
            return [self.path]
        measured = measured_folder(self.run, open_run(self.run).manifest)
        decided = [
            folder / f"{self.of_run}.parquet"
            for folder in (measured / "columns", self.run / "decisions")
        ]
        captions = captions_path(self.run, self.of_run)
        return [self.path, self.run / MANIFEST, *decided, captions]


def open_run(output: Path) -> FilterRun:
    """Open a filter run, once in a process."""
    return _open(output, (output / MANIFEST).stat().st_mtime_ns)


@lru_cache(16)
def _open(output: Path, _: int) -> FilterRun:
    return FilterRun(output)


def find(sources: Sequence[Path], besides: Path) -> list[Shard]:
    """Find the shards of sources, in the order of these and then of their names.

    Args:
        sources: Outputs of filter runs, folders of tar or parquet shards, or single shards.
        besides: A folder to leave out, of what is made of them.

    Raises:
        RecipeError: A source cannot be read, or holds no images.
    """
    if not sources:
        raise RecipeError("data must name a folder or more, got none; name one with --data")
    found = []
    for place, source in enumerate(sources):
        is_run = (source / MANIFEST).is_file()
        shards = _of_run(source, place) if is_run else _of_folder(source, place, besides)
        if not shards:
            raise RecipeError(
                f"data {source} must hold images, got metadata alone; download the images first"
            )
        found += shards
    return found


def _of_run(output: Path, place: int) -> list[Shard]:
    output = output.absolute()
    return [
        Shard(
            f"{place}/{one.name}",
            path,
            None if one.tar else one.image,
            None,
            run=output,
            of_run=one.name,
        )
        for one in open_run(output).shards
        if (path := one.tar or one.parquet) and (one.tar or one.image)
    ]


def _of_folder(source: Path, place: int, besides: Path) -> list[Shard]:
    try:
        _, shards = find_shards(str(source), {}, besides, captions=False)
    except InputError as error:
        raise RecipeError(str(error)) from None
    found = []
    for one in shards:
        if one.tar:
            found.append(Shard(f"{place}/{one.name}", one.tar, None))
        elif one.kind == "images" and one.parquet and "image" in one.columns:
            caption, key, status = map(one.columns.get, ("caption", "key", "status"))
            image = one.columns["image"]
            name = f"{place}/{one.name}"
            found.append(Shard(name, one.parquet, image, caption, key, status))
    return found
