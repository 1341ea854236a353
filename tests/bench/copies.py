"""Let each peer hash images and copies of them, and tell how many it finds, and how fast it is."""

from collections.abc import Iterator
from itertools import combinations, islice
from pathlib import Path

from PIL import Image

from pipelines.copies import TRANSFORMS, decoded
from tests.bench import corpus
from tests.bench.detectors import read_tar
from tests.bench.peers import PEERS, Peer, UnavailableError, distances, scores

IMAGES = 200
REPEATS = 3
"""Of hashing the photographs; the fastest counts."""
PHOTOGRAPHS = 100
CLOTHING = Path(__file__).parents[3] / "shared" / "data" / "clothing" / "test" / "00000.tar"


_KINDS = (("JPEG", "quality 50"), ("rescale", "50 %"), ("grayscale", ""))
COPIES = {f"{t.name} {t.strength}".strip(): t for t in TRANSFORMS if (t.name, t.strength) in _KINDS}


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
    yield f"{'':24}{'distance':>9}" + "".join(f"{head:>18}" for head in heads)
    for peer in PEERS:
        try:
            cells = [*_matches(peer, folder / "copies", names), _rate(peer, photographs)]
        except UnavailableError as error:
            yield f"{peer.name:<24}{error}"
        else:
            cells_text = "".join(f"{cell:>18}" for cell in cells)
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
    for name, data in read_tar(folder.with_suffix(".tar")):
        (folder / f"{name}.jpg").write_bytes(data)
    return folder


def _images_and_copies(folder: Path) -> list[str]:
    """Write images, and a copy of each kind of each of them; return their names."""
    folder.mkdir()
    names = []
    for name, data in islice(read_tar(CLOTHING), IMAGES):
        names.append(name)
        (folder / _name(name, "")).write_bytes(data)
        picture = decoded(data, Image.MAX_IMAGE_PIXELS)
        for copy, transform in COPIES.items():
            (folder / _name(name, copy)).write_bytes(transform.copy(picture, 0))
    return names


def _name(name: str, copy: str) -> str:
    return f"{copy} {name}" if copy else name
