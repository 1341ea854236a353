"""How other near-duplicate detectors answer: each by its own public API, in its own environment.

An environment is built by pip when a peer of it is first asked for, under $ALTMILL_PEERS or
~/.cache/altmill/peers, at the versions below and for the rest at those of constraints.txt, so that
all decode with the same Pillow.  That of imagededup and of data-juicer, whose operator hashes with
imagededup's code, takes 6 GB, as imagededup imports PyTorch.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ENVIRONMENTS = {
    "imagehash": ("imagehash==4.3.2",),
    "pdqhash": ("pdqhash==0.2.8", "numpy", "pillow"),
    "cleanvision": ("cleanvision==0.3.7", "pandas==3.1.1"),
    "imagededup": (
        *("imagededup==0.3.3.post2", "torch==2.15.0", "torchvision==0.29.2"),
        *("py-data-juicer==1.6.1", "datasets==5.2.0", "pandas==3.1.1"),
        *("aiohttp==3.14.5", "ray==2.60.0"),  # py-data-juicer imports them and requires neither
    ),
}
"""What each environment has; torch's wheels of PyPI bring CUDA, and no smaller ones are there."""

_ROOT = Path(__file__).parents[2]
_CHILD = Path(__file__).parent / "hash_images.py"
_ERROR = re.compile(r"^(?:ERROR(?!: Resol)|[\w.]*Error|[\w.]*Exception)\b.*", re.MULTILINE)
"""The lines of pip, and of a traceback, that say what is wrong."""
_ALONE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PIP_NO_INDEX": "1",
    "UV_OFFLINE": "1",  # data-juicer installs what it misses
}
"""What a peer has in its environment variables."""


class UnavailableError(Exception):
    """A peer cannot be had here; the message is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A hash, group or embedding of a library, at its own settings."""

    library: str
    method: str
    """As the library names it."""
    default_distance: float = 0
    """The largest distance of a pair that the library calls duplicates, unless told otherwise."""
    max_distance: float = 0
    """The largest that it can be told; 0 where only images of equal hash, or group, are."""
    cosine: bool = False
    """Distances are 1 - cosine similarity of embeddings, instead of Hamming's of hashes."""

    @property
    def name(self) -> str:
        """What a table calls it."""
        return f"{self.library} {self.method}"

    @property
    def environment(self) -> str:
        """Which of `ENVIRONMENTS` it runs in."""
        return "imagededup" if self.library == "data-juicer" else self.library


PEERS = (
    Peer("imagehash", "phash", 0, 64),  # its demo script groups equal hashes
    Peer("pdqhash", "compute", 31, 256),  # no default of pdqhash's own: ThreatExchange's
    *(Peer("imagededup", hash_, 10, 64) for hash_ in ("PHash", "DHash", "WHash", "AHash")),
    Peer("imagededup", "CNN", 0.1, 2, cosine=True),  # its min_similarity_threshold is 0.9
    *(Peer("cleanvision", hash_) for hash_ in ("phash", "dhash", "whash", "ahash", "chash")),
    *(Peer("data-juicer", hash_) for hash_ in ("phash", "dhash", "whash", "ahash")),
)
"""Each library's own default method first, but for imagededup, which has none."""


class Scores(NamedTuple):
    """What a peer says of images."""

    hashes: dict[str, str]
    """For each name hexadecimal digits: of its hash, of cleanvision's group, or of an embedding."""
    bits: int
    """Of each of them."""
    seconds: float
    """CPU time, user and system, that hashing all of them took, decoding included."""


def scores(peer: Peer, folder: Path, names: Sequence[str], *, repeats: int = 1) -> Scores:
    """Let a peer hash images; its process has the least time of `repeats` times, imports aside.

    Args:
        peer: One of `PEERS`.
        folder: Where the images are; every one must be readable.
        names: The names of their files; cleanvision groups these among themselves.
        repeats: How often to do it, if what matters is the time.

    Raises:
        UnavailableError: It cannot be installed, or started, here.
    """
    with tempfile.TemporaryDirectory(prefix="altmill-peer-") as scratch:
        job, result = Path(scratch, "job.json"), Path(scratch, "result.json")
        files = [str((folder / name).absolute()) for name in names]
        todo = {"library": peer.library, "method": peer.method, "files": files, "repeats": repeats}
        job.write_text(json.dumps(todo))
        python = _environment(peer.environment)
        command = [python, "-I", str(_CHILD), str(job), str(result)]
        _run(command, f"{peer.name} does not run", _ALONE)
        found = json.loads(result.read_text())
    hashes = dict(zip(names, found["hashes"], strict=True))
    (digits,) = {len(code) for code in hashes.values()}
    return Scores(hashes, 4 * digits, found["cpu_s"])


def distances(
    peer: Peer, found: Scores, pairs: Iterable[tuple[str, str]]
) -> NDArray[np.floating[Any]]:
    """Return the distance of each pair of names, Hamming's or 1 - cosine similarity."""
    kind = "<f4" if peer.cosine else "u1"
    code = {name: np.frombuffer(bytes.fromhex(one), kind) for name, one in found.hashes.items()}
    left, right = (np.stack([code[name] for name in side]) for side in zip(*pairs, strict=True))
    if not peer.cosine:
        return np.bitwise_count(left ^ right).sum(axis=1, dtype=np.float64)
    left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (left, right))
    return 1 - (left * right).sum(axis=1)


def _environment(name: str) -> str:
    """Return the interpreter of an environment, which is built if it is not yet there."""
    cache = Path(os.environ.get("ALTMILL_PEERS") or "~/.cache/altmill/peers").expanduser()
    constraints = _ROOT / "constraints.txt"
    made_of = "\n".join([sys.version, *ENVIRONMENTS[name], constraints.read_text()])
    folder = cache / f"{name}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    python, built = str(folder / "bin" / "python"), folder / "built"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"Environments need a folder, $ALTMILL_PEERS: {error}") from error
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another benchmark may be building it
        if not built.exists():
            shutil.rmtree(folder, ignore_errors=True)
            because = f"{name}'s environment cannot be built"
            _run([sys.executable, "-m", "venv", str(folder)], because)
            pip = [python, "-m", "pip", "install", "--quiet", "--constraint", str(constraints)]
            _run([*pip, *ENVIRONMENTS[name]], because)
            built.touch()
    return python


def _run(command: Sequence[str], because: str, variables: Mapping[str, str] | None = None) -> None:
    variables = {**os.environ, **(variables or {})}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = _ERROR.findall(done.stderr) or [f"exit status {done.returncode}"]
        raise UnavailableError(f"{because}: {errors[-1]}")
