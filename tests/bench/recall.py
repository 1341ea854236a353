"""Measure which copies of photographs a detector finds, at one rate of false matches for all.

A detector is what it says of images, `Detector`: codes by name, and how far two codes are apart.
So a tool's hashes, an embedding and our own are judged by the same lines; see `judge`.
"""

import hashlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.copies import TRANSFORMS, decoded
from pipelines.hashes import BITS, MIN_QUALITY, dihedral, hashes, packed, shrink
from pipelines.sources import find_images
from tests.bench.detectors import efficientnet, has_efficientnet
from tests.bench.peers import PEERS, UnavailableError, scores

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "clothing"
COPIED = 60
"""Photographs of which copies are made."""
FALSE_RATE = 1e-6
"""Of pairs of different photographs that may match."""

_LIMIT = 10**9
_ROWS_AT_ONCE = 64
_CLOSEST = 3
_EMBEDDED_PX = 224
"""What EfficientNet-lite0 was trained at."""

Apart = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


def hamming(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Return in how many bits codes differ, (n, words) and (m, words), as (n, m)."""
    apart = np.zeros((len(left), len(right)), np.int64)
    for word in range(left.shape[1]):
        apart += np.bitwise_count(left[:, None, word] ^ right[None, :, word])
    return apart


def cosine(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Return 1 - the cosine similarity of vectors, (n, d) and (m, d), as (n, m)."""
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (left, right)]
    return 1 - unit[0] @ unit[1].T


@dataclass(frozen=True)
class Detector:
    """What a detector says of images."""

    name: str
    codes: Mapping[str, NDArray[Any]]
    """By the image's name; one that has none matches nothing."""
    apart: Apart = hamming
    variants: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """The codes, (variants, words), that an index has of a photograph, if not its code alone."""

    def indexed(self, name: str) -> NDArray[Any]:
        """Return the codes, (variants, words), by which a photograph is found."""
        return self.variants[name] if self.variants else self.codes[name][None]


class Judged(NamedTuple):
    """How a detector did."""

    nearer_than: float
    """A copy that is nearer to its photograph than this is found: one more pair of different
    photographs than may match is as near as this."""
    recall: dict[int, float]
    """By the transform's place in `TRANSFORMS`."""
    closest: list[tuple[float, str, str]]
    """The closest pairs of different photographs."""


def judge(
    detector: Detector,
    photographs: Sequence[str],
    copies: Mapping[tuple[str, int], str],
    pairs: int,
) -> Judged:
    """Find the threshold that so many false matches allow, and what copies it finds.

    Args:
        detector: Its codes of the photographs and the copies.
        photographs: Names of different photographs.
        copies: Names of the copies, by photograph and transform.
        pairs: How many pairs of different photographs may match.
    """
    closest = _closest(detector, photographs, pairs + 1)
    nearer_than = closest[-1][0]
    found: dict[int, list[bool]] = {}
    for (photograph, transform), copy in copies.items():
        known = copy in detector.codes and photograph in detector.codes
        code = detector.codes[copy][None] if known else None
        near = known and detector.apart(code, detector.indexed(photograph)).min() < nearer_than
        found.setdefault(transform, []).append(bool(near))
    return Judged(nearer_than, {at: float(np.mean(all_)) for at, all_ in found.items()}, closest)


def _closest(
    detector: Detector, photographs: Sequence[str], number: int
) -> list[tuple[float, str, str]]:
    """Return the closest pairs of different photographs, the closest one first."""
    names = [name for name in photographs if name in detector.codes]
    codes = np.stack([detector.codes[name] for name in names])
    best: list[tuple[float, str, str]] = []
    for first in range(0, len(names), _ROWS_AT_ONCE):
        some = names[first : first + _ROWS_AT_ONCE]
        indexed = [detector.indexed(name) for name in some]
        every = detector.apart(codes[first:], np.concatenate(indexed))
        apart = every.reshape(len(codes) - first, len(some), -1).min(axis=2).T
        apart = np.where(np.arange(apart.shape[1]) > np.arange(len(some))[:, None], apart, np.inf)
        flat = apart.ravel()
        nearest = np.argpartition(flat, min(number, flat.size - 1))[: number + 1]
        rows, columns = np.unravel_index(nearest, apart.shape)
        best += [
            (float(apart[row, column]), some[row], names[first + column])
            for row, column in zip(rows, columns, strict=True)
        ]
        best = sorted(best)[:number]
    return best


def either(hashed: Detector, embedded: Detector, hash_scale: float, scale: float) -> Detector:
    """Return what finds an image by its hash or its embedding, as two rules of a recipe do.

    Args:
        hashed: Its codes are bits.
        embedded: Compared by cosine.
        hash_scale: How far apart hashes are that count for as much as
        scale: embeddings so far apart.
    """
    bits = 64 * len(next(iter(hashed.codes.values())))
    vectors = {name: code / np.linalg.norm(code) for name, code in embedded.codes.items()}

    def joined(name: str, words: NDArray[np.uint64]) -> NDArray[np.float32]:
        signs = np.unpackbits(words.view(np.uint8), axis=-1) * 2.0 - 1
        vector = np.broadcast_to(vectors[name], (*words.shape[:-1], vectors[name].size))
        return np.concatenate([signs, vector], axis=-1, dtype=np.float32)

    def apart(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
        differing = (bits - left[:, :bits] @ right[:, :bits].T) / 2
        unlike = 1 - left[:, bits:] @ right[:, bits:].T
        return np.minimum(differing / hash_scale, unlike / scale)

    codes = {name: joined(name, words) for name, words in hashed.codes.items()}
    variants = {name: joined(name, words) for name, words in hashed.variants.items()}
    return Detector("either of these", codes, apart, variants)


def measure_recall(folder: Path, *, peers: bool) -> None:
    """Print the recall of each transform, for our detectors and perhaps those of other tools.

    Args:
        folder: For the image files.
        peers: Run other tools, too.
    """
    if not PHOTOGRAPHS.is_dir():
        _say(f"recall: skipped, as there are no photographs in {PHOTOGRAPHS}")
        return
    photographs = _write_photographs(folder)
    copies = _write_copies(folder, photographs)
    names = [*photographs, *copies.values()]
    total = len(photographs) * (len(photographs) - 1) // 2
    allowed = int(total * FALSE_RATE)
    detectors = list(_ours(folder, photographs, names))
    for embedded in _embedded(folder, names):
        both = detectors[-1], embedded
        scales = [judge(one, photographs, {}, allowed // 2).nearer_than for one in both]
        detectors += [embedded, either(*both, *scales)]
    if peers:
        detectors += _of_peers(folder, names)
    _say(
        f"\nRecall of copies of {COPIED} photographs, %; {len(photographs):,} different ones make "
        f"{total:,} pairs, of which {allowed} may match: a rate of {allowed / total:.1e}"
        + (f", as fewer pairs than {1 / FALSE_RATE:,.0f} tell no better" * (not allowed))
    )
    _print(detectors, [judge(one, photographs, copies, allowed) for one in detectors])


def _write_photographs(folder: Path) -> list[str]:
    """Write each photograph to a file, those of equal bytes once; return their names."""
    names: list[str] = []
    seen: set[str] = set()
    for part in find_images(str(PHOTOGRAPHS), folder):
        for name, data in part.read():
            digest = hashlib.sha256(data).hexdigest()
            if digest not in seen and decoded(data, _LIMIT):
                seen.add(digest)
                names.append(f"{name.replace('/', '-')}.jpg")
                (folder / names[-1]).write_bytes(data)
    return names


def _write_copies(folder: Path, photographs: Sequence[str]) -> dict[tuple[str, int], str]:
    drawn = np.random.default_rng(0).choice(len(photographs), COPIED, replace=False)
    names = {}
    for name in (photographs[at] for at in np.sort(drawn)):
        image = decoded((folder / name).read_bytes(), _LIMIT)
        for at, transform in enumerate(TRANSFORMS):
            data = transform.copy(image, 0)
            extension = Image.open(io.BytesIO(data)).format.lower()
            names[name, at] = f"{name.removesuffix('.jpg')}-{at:02d}.{extension}"
            (folder / names[name, at]).write_bytes(data)
    return names


def _ours(folder: Path, photographs: Sequence[str], names: Sequence[str]) -> Iterator[Detector]:
    """Hash as a run does by default; what is too flat matches nothing."""
    grids = {name: shrink((folder / name).read_bytes(), _LIMIT, exact=False) for name in names}
    hashed = {name: hashes(grid) for name, grid in grids.items()}
    telling = [name for name in names if hashed[name].pdq_quality >= MIN_QUALITY]
    turned = {
        name: [hashes(grid) for grid in dihedral((folder / name).read_bytes(), _LIMIT)]
        for name in set(photographs) & set(telling)
    }
    for kind, title in (("phash", "pHash"), ("pdq", "PDQ")):
        codes = {n: packed([getattr(hashed[n], kind)], BITS[kind])[0] for n in telling}
        yield Detector(title, codes)
        variants = {
            name: packed([getattr(one, kind) for one in several], BITS[kind])
            for name, several in turned.items()
        }
        yield Detector(f"{title}, dihedral", codes, hamming, variants)


def _embedded(folder: Path, names: Sequence[str]) -> Iterator[Detector]:
    """Embed as a run does with such a model."""
    if not has_efficientnet(_say):
        return
    embed = efficientnet(folder, _EMBEDDED_PX)
    vectors: dict[str, NDArray[Any]] = {}
    for at in range(0, len(names), _ROWS_AT_ONCE):
        some = names[at : at + _ROWS_AT_ONCE]
        found = embed([(folder / name).read_bytes() for name in some])
        vectors |= dict(zip(some, found, strict=True))
    yield Detector("EfficientNet-lite0", vectors, cosine)


def _of_peers(folder: Path, names: Sequence[str]) -> Iterator[Detector]:
    """Yield other tools' hashes and embeddings of image files; say which cannot be had here."""
    for peer in PEERS:
        if not peer.max_distance:  # it tells equal images alone, whose closest pairs are all at 0
            continue
        try:
            digits = scores(peer, folder, names).hashes
        except UnavailableError as error:
            _say(f"{peer.name}: {error}")
            continue
        kind = "<f4" if peer.cosine else "u1"
        codes = {name: np.frombuffer(bytes.fromhex(code), kind) for name, code in digits.items()}
        yield Detector(peer.name, codes, cosine if peer.cosine else hamming)


def _print(detectors: Sequence[Detector], judged: Sequence[Judged]) -> None:
    _say(f"{'':37}" + "".join(f"{one.name:>20}" for one in detectors))
    _say(f"{'a match is nearer than':<37}" + "".join(f"{j.nearer_than:>20.4g}" for j in judged))
    for at, transform in enumerate(TRANSFORMS):
        label = f"{transform.name} {transform.strength}"
        shares = "".join(f"{100 * one.recall[at]:>20.1f}" for one in judged)
        _say(f"{label:<30}{'benign' * transform.benign:<7}{shares}")
    for title, benign in (("all benign ones", True), ("all others", False)):
        chosen = [at for at, transform in enumerate(TRANSFORMS) if transform.benign is benign]
        means = (np.mean([one.recall[at] for at in chosen]) for one in judged)
        _say(f"{title:<37}" + "".join(f"{100 * mean:>20.1f}" for mean in means))
    for detector, one in zip(detectors, judged, strict=True):
        pairs = (f"{left} and {right} at {far:.4g}" for far, left, right in one.closest[:_CLOSEST])
        _say(f"closest by {detector.name}: {'; '.join(pairs)}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
