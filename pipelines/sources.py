"""The images of a test set: image files in a folder, or shards of any kind that a job reads."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.inputs import InputError, Shard, find_shards
from pipelines.rows import read_rows
from pipelines.schema import IMAGE_EXTENSIONS
from recaption.stores import StorePath, to_path

_FILES_AT_ONCE = 256


class Part(Protocol):
    """Some images of a source."""

    @property
    def root(self) -> Path:
        """The source."""

    def read(self, wanted: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """Yield names and bytes; of all images, or of those that are wanted.

        Raises:
            InputError: The part cannot be read to its end.
        """


@dataclass(frozen=True, slots=True)
class Files:
    """Image files, named by their paths."""

    root: Path
    files: Sequence[Path]

    def read(self, wanted: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
        for path in self.files:
            name = path.relative_to(self.root).as_posix()
            if wanted is None or name in wanted:
                yield name, path.read_bytes()


@dataclass(frozen=True, slots=True)
class ShardImages:
    """The images of a shard, named by its name and their keys."""

    root: Path
    shard: Shard

    def read(self, wanted: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
        prefix = f"{self.shard.name}/"
        if wanted is not None and not any(name.startswith(prefix) for name in wanted):
            return
        damage: list[str] = []
        for rows in read_rows(self.shard, damage):
            for key, image in zip(rows.batch["key"].to_pylist(), rows.images, strict=True):
                if wanted is None or prefix + key in wanted:
                    yield prefix + key, image or b""
        if damage:
            raise InputError(
                f"shard {self.shard.name} of {self.root} must be whole, got: {damage[0]}; fetch it "
                "again"
            )


def find_images(source: str, skip: Path) -> Sequence[Part]:
    """Find the images of a folder, or of shards.

    Args:
        source: A folder of image files or shards, or a glob of shards.
        skip: A folder to leave out, the output's.

    Raises:
        InputError: There is no image.
    """
    root = to_path(source).absolute()
    files = _below(root) if root.is_dir() else []
    images = sorted(p for p in files if p.suffix.lower()[1:] in IMAGE_EXTENSIONS)
    if images and any(path.suffix == ".tar" for path in files):
        raise InputError(
            f"images {source} must hold image files or shards, got both; name the folder of one"
        )
    if images:  # a parquet beside them tells of them, as img2dataset's format "files" has it
        chunks = range(0, len(images), _FILES_AT_ONCE)
        return [Files(root, images[at : at + _FILES_AT_ONCE]) for at in chunks]
    if files and not any(path.suffix in (".tar", ".parquet") for path in files):
        raise InputError(
            f"images {source} must hold image files, .tar or .parquet files, got none; check the "
            "path"
        )
    root, shards = find_shards(source, {}, skip, captions=False)
    without = [shard.name for shard in shards if shard.kind == "metadata"]
    if without:
        raise InputError(
            f"images {source} must hold image bytes, got none in {without[0]}; give shards with "
            "images, or a folder of image files"
        )
    return [ShardImages(root, shard) for shard in shards]


def _below(root: Path) -> list[Path]:
    if isinstance(root, StorePath):
        return list(root.below())
    return [path for path in root.rglob("*") if path.is_file()]
