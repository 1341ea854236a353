"""The images of a test set: image files in a folder, or shards of any kind that a job reads."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.inputs import InputError, Shard, find_shards
from pipelines.rows import read_rows
from pipelines.schema import IMAGE_EXTENSIONS

_FILES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Part:
    """Some images of a source: files, or a shard."""

    root: Path
    files: Sequence[Path] = ()
    shard: Shard | None = None

    def read(self, wanted: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """Yield names and bytes; of all images, or of those that are wanted.

        Raises:
            InputError: The part cannot be read to its end.
        """
        if self.shard is None:
            for path in self.files:
                name = path.relative_to(self.root).as_posix()
                if wanted is None or name in wanted:
                    yield name, path.read_bytes()
            return
        damage: list[str] = []
        for rows in read_rows(self.shard, damage):
            for key, image in zip(rows.batch["key"].to_pylist(), rows.images, strict=True):
                name = f"{self.shard.name}/{key}"
                if wanted is None or name in wanted:
                    yield name, image or b""
        if damage:
            raise InputError(
                f"shard {self.shard.name} of {self.root} must be whole, got: {damage[0]}; fetch it "
                "again"
            )


def find_images(source: str, skip: Path) -> list[Part]:
    """Find the images of a folder, or of shards.

    Args:
        source: A folder of image files or shards, or a glob of shards.
        skip: A folder to leave out, the output's.

    Raises:
        InputError: There is no image.
    """
    root = Path(source).absolute()
    if root.is_dir() and not any(p.suffix in (".tar", ".parquet") for p in root.rglob("*")):
        paths = sorted(p for p in root.rglob("*") if p.suffix.lower()[1:] in IMAGE_EXTENSIONS)
        if not paths:
            raise InputError(
                f"images {source} must hold image files, .tar or .parquet files, got none; check "
                "the path"
            )
        chunks = range(0, len(paths), _FILES_AT_ONCE)
        return [Part(root, files=paths[at : at + _FILES_AT_ONCE]) for at in chunks]
    root, shards = find_shards(source, {}, skip, captions=False)
    without = [shard.name for shard in shards if shard.kind == "metadata"]
    if without:
        raise InputError(
            f"images {source} must hold image bytes, got none in {without[0]}; give shards with "
            "images, or a folder of image files"
        )
    return [Part(root, shard=shard) for shard in shards]
