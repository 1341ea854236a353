"""Write embeddings as clip-retrieval does, and read them: what a search goes through.

img_emb/img_emb_0.npy      float16 (n, d), a part for each shard
text_emb/text_emb_0.npy    float16 (n, d), of their captions
metadata/metadata_0.parquet  image_path, caption: the rows, in the same order
image.index                FAISS's, if clip-retrieval has made one of them
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from filters.rule import RecipeError
from recaption.files import replacing
from train.evaluation.encoder import Encoder, Floats, encode_texts
from train.evaluation.images import FAULTS, Source, embed

INDEX = "image.index"
_FOLDERS = {"img": "img_emb", "text": "text_emb", "metadata": "metadata"}


@dataclass(frozen=True, slots=True)
class Part:
    """Pairs that are written together."""

    images: Sequence[Source]
    captions: Sequence[str]
    paths: Sequence[str]
    """What tells one image from another: a key, a path or a URL."""


def write_embeddings(encoder: Encoder, parts: Iterable[Part], out: Path) -> dict[str, int]:
    """Embed pairs, and return how many, and how many images had which of `images.FAULTS`.

    Raises:
        RecipeError: No image of a part can be read.
    """
    counts = {"pairs": 0, **dict.fromkeys(FAULTS, 0)}
    for number, part in enumerate(parts):
        seen = embed(encoder.encode_images, part.images)
        captions = [part.captions[i] for i in seen.at]
        _write_array(_path(out, "img", number, "npy"), seen.vectors)
        _write_array(_path(out, "text", number, "npy"), encode_texts(encoder, captions))
        rows = pa.table(
            {"image_path": [part.paths[i] for i in seen.at], "caption": captions},
            pa.schema([("image_path", pa.string()), ("caption", pa.string())]),
        )
        with replacing(_path(out, "metadata", number, "parquet")) as temporary:
            pq.write_table(rows, temporary)
        counts["pairs"] += len(seen.at)
        for name, value in seen.faults.items():
            counts[name] += value
    return counts


def _path(out: Path, kind: str, number: int, suffix: str) -> Path:
    return (
        out / _FOLDERS[kind] / f"{kind if kind == 'metadata' else f'{kind}_emb'}_{number}.{suffix}"
    )


def _write_array(path: Path, vectors: Floats) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, vectors.astype(np.float16))


@dataclass(frozen=True, slots=True)
class Index:
    """Embeddings of images, mapped into memory part by part."""

    folder: Path
    parts: tuple[Floats, ...]
    starts: tuple[int, ...]
    """The number of each part's first image."""

    def describe(self, number: int) -> dict[str, str]:
        """Return what is known of an image."""
        part = int(np.searchsorted(self.starts, number, "right")) - 1
        file = _number_paths(self.folder / "metadata", "parquet")[part]
        row = pq.read_table(file).slice(number - self.starts[part], 1)
        return {name: str(value[0]) for name, value in row.to_pydict().items()}


def open_index(folder: Path) -> Index:
    """Open a folder of embeddings.

    Raises:
        RecipeError: There are none.
    """
    try:
        parts = tuple(
            np.load(path, mmap_mode="r") for path in _number_paths(folder / "img_emb", "npy")
        )
        rows = [
            pq.read_metadata(path).num_rows
            for path in _number_paths(folder / "metadata", "parquet")
        ]
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise RecipeError(f"{folder} must hold embeddings, got: {error}; embed again") from None
    sizes = [len(part) for part in parts]
    if not sizes or sizes != rows:
        raise RecipeError(
            f"{folder} must hold img_emb/*.npy and metadata/*.parquet of as many rows, got "
            f"{sum(sizes)} and {sum(rows)}; embed again"
        )
    return Index(folder, parts, tuple(int(start) for start in np.cumsum([0, *sizes[:-1]])))


def _number_paths(folder: Path, suffix: str) -> list[Path]:
    """Return files such as `img_emb_10.npy` by their numbers."""
    return sorted(folder.glob(f"*.{suffix}"), key=lambda path: int(path.stem.rpartition("_")[2]))
