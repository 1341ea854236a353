"""Write the embeddings of pairs, as they are learnt from, in clip-retrieval's layout."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from recaption.stores import working
from train.augment import chances
from train.evaluation.embeddings import Part, write_embeddings
from train.images import BadSampleError
from train.index import Data, Unit, open_data
from train.opening import Opened
from train.readers import UnitReader

PAIRS = 1024
"""Of a part at most; their images are in memory together."""


def embed(opened: Opened, sources: Sequence[Path], out: Path) -> dict[str, int]:
    """Embed the pairs of some data, and return how many, and how many images had which fault.

    Args:
        opened: The model.
        sources: Folders of pairs, as those that a run learns from.
        out: A folder for `img_emb/`, `text_emb/`, `metadata/`, and an index of the samples.

    Raises:
        RecipeError: A source cannot be read.
    """
    data = open_data(sources, opened.settings.captions, working(out / "index"))
    return write_embeddings(opened, _parts(data, opened.settings.seed), out)


def _parts(data: Data, seed: int) -> Iterator[Part]:
    for unit in data.units:
        reader = UnitReader(unit)
        for first in range(0, unit.rows, PAIRS):
            yield _part(data, reader, range(first, min(first + PAIRS, unit.rows)), seed, unit)
        reader.close()


def _part(data: Data, reader: UnitReader, rows: range, seed: int, unit: Unit) -> Part:
    """Read rows; an image that is not there any more counts as one that cannot be decoded."""
    found = []
    for row in rows:
        try:
            key, image, texts = reader.read(row)
        except BadSampleError:
            found.append((b"", "", ""))
            continue
        caption = data.captions.draw(texts, chances(seed, 0, key).caption)
        found.append((image, caption, f"{unit.shard.name}/{key}"))
    return Part(*zip(*found, strict=True))
