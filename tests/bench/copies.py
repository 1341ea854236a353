"""Let each peer hash images and copies of them, and tell how many it finds, and how fast it is."""

import io
import tarfile
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

from PIL import Image

from tests.bench import corpus
from tests.bench.peers import PEERS, Peer, UnavailableError, distances, scores

IMAGES = 200
REPEATS = 3
"""Of hashing the photographs; the fastest counts."""
PHOTOGRAPHS = 100
CLOTHING = Path(__file__).parents[3] / "shared" / "data" / "clothing" / "test" / "00000.tar"


def _gray(image: Image.Image) -> Image.Image:
    return image.convert("L")


def _half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def _same(image: Image.Image) -> Image.Image:
    return image


COPIES: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    "JPEG 50": (_same, 50),
    "half size": (_half, 90),
    "grayscale": (_gray, 90),
}
"""How to copy an image, and the quality of JPEG to write the copy with."""


def compare_peers(folder: Path) -> Iterator[str]:
    """Return the lines of a table: recall and false matches at each peer's default distance."""
    if not CLOTHING.exists():
        yield "Peers are not compared, as ../shared/data/clothing is not there."
        return
    photographs = _photographs(folder / "photographs")
    names = _images_and_copies(folder / "copies")
    yield ""
    yield f"Peers: recall among {len(names)} images of ../shared/data/clothing, of a copy as"
    heads = (*COPIES, "unlike pairs", "per CPU s")
    yield f"{'':24}{'distance':>9}" + "".join(f"{head:>14}" for head in heads)
    for peer in PEERS:
        try:
            cells = [*_matches(peer, folder / "copies", names), _rate(peer, photographs)]
        except UnavailableError as error:
            yield f"{peer.name:<24}{error}"
        else:
            cells_text = "".join(f"{cell:>14}" for cell in cells)
            yield f"{peer.name:<24}{peer.default_distance:>9}{cells_text}"


def _matches(peer: Peer, folder: Path, names: list[str]) -> Iterator[str]:
    """Return the recall of each copy, and the share of pairs of different images that match."""
    every = [_name(name, copy) for name in names for copy in ("", *COPIES)]
    found = scores(peer, folder, every)
    for copy in COPIES:
        pairs = [(_name(name, ""), _name(name, copy)) for name in names]
        yield f"{(distances(peer, found, pairs) <= peer.default_distance).mean():.3f}"
    unlike = list(combinations([_name(name, "") for name in names], 2))
    yield f"{(distances(peer, found, unlike) <= peer.default_distance).mean():.1e}"


def _rate(peer: Peer, folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return f"{len(names) / scores(peer, folder, names, repeats=REPEATS).seconds:,.0f}"


def _photographs(folder: Path) -> Path:
    """Write JPEG files of 640 by 480."""
    corpus.write_photographs(folder.with_suffix(".tar"), PHOTOGRAPHS)
    folder.mkdir()
    for name, data in _read(folder.with_suffix(".tar")):
        (folder / name).write_bytes(data)
    return folder


def _images_and_copies(folder: Path) -> list[str]:
    """Write images, and a copy of each kind of each of them; return their names."""
    folder.mkdir()
    names = []
    for (name, data), _ in zip(_read(CLOTHING), range(IMAGES), strict=False):
        names.append(name)
        (folder / _name(name, "")).write_bytes(data)
        with Image.open(io.BytesIO(data)) as image:
            for copy, (change, quality) in COPIES.items():
                change(image).save(folder / _name(name, copy), "JPEG", quality=quality)
    return names


def _name(name: str, copy: str) -> str:
    return f"{copy} {name}" if copy else name


def _read(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None and member.name.endswith(".jpg"):
                yield member.name, content.read()
