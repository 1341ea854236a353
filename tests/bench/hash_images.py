"""Hash images as one peer does, with that peer's own public functions; for its own environment.

python hash_images.py JOB RESULT reads a job of `tests.bench.peers` and writes what came out, both
JSON.  Of altmill nothing is imported here, as nothing of it is installed there.
"""

import contextlib
import json
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Hash = Callable[[Sequence[str]], list[str]]
"""Hash files: for each the hexadecimal digits of its hash, or a name of the peer's group."""


def main(job: str, result: str) -> None:
    """Do a job: hash the same files as often as told, and note the least CPU time."""
    todo = json.loads(Path(job).read_text())
    files, found = todo["files"], []
    with contextlib.redirect_stdout(sys.stderr):
        hashing = METHODS[todo["library"]](todo["method"])
        hashing(files[:1])  # what is only done once
        spent = []
        for _ in range(todo["repeats"]):
            before = _cpu()
            found = hashing(files)
            spent.append(_cpu() - before)
        if todo["library"] == "data-juicer":
            _check_process(todo["method"], files, found)
    Path(result).write_text(json.dumps({"hashes": found, "cpu_s": min(spent)}))


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _imagehash(method: str) -> Hash:
    import imagehash
    from PIL import Image

    function = getattr(imagehash, method)

    def hashing(files: Sequence[str]) -> list[str]:
        found = []
        for file in files:
            with Image.open(file) as image:
                found.append(str(function(image)))
        return found

    return hashing


def _pdqhash(method: str) -> Hash:
    """Decode with Pillow, as we do; pdqhash takes arrays, and its README reads them with OpenCV."""
    import numpy as np
    import pdqhash
    from PIL import Image

    function = getattr(pdqhash, method)

    def hashing(files: Sequence[str]) -> list[str]:
        found = []
        for file in files:
            with Image.open(file) as image:
                bits, _ = function(np.asarray(image.convert("RGB")))
            found.append(np.packbits(bits).tobytes().hex())
        return found

    return hashing


def _imagededup(method: str) -> Hash:
    from imagededup import methods

    encoder: Any = getattr(methods, method)(verbose=False)

    def hashing(files: Sequence[str]) -> list[str]:
        return [_hexadecimal(encoder.encode_image(image_file=file), file) for file in files]

    return hashing


def _hexadecimal(code: Any, file: str) -> str:
    """Return the digits of a hash, or of the little-endian float32 of an embedding."""
    if code is None:
        raise ValueError(f"imagededup cannot read {file}")
    return code if isinstance(code, str) else code.astype("<f4").tobytes().hex()


def _cleanvision(method: str) -> Hash:
    """Name each group of exact or near duplicates, and each image alone, by a number."""
    from cleanvision import Imagelab

    issues: dict[str, dict[str, object]] = {"exact_duplicates": {}, "near_duplicates": {}}
    issues["near_duplicates"] = {"hash_type": method}

    def hashing(files: Sequence[str]) -> list[str]:
        lab = Imagelab(filepaths=list(files), verbose=False)
        lab.find_issues(issues, n_jobs=1, verbose=False)
        group = dict(zip(files, range(len(files)), strict=True))
        for issue in issues:  # the near ones last: where both have an image, theirs is the larger
            for members in lab.info[issue]["sets"]:
                group |= dict.fromkeys(members, group[members[0]])
        return [f"{group[file]:08x}" for file in files]

    return hashing


def _data_juicer(method: str) -> Hash:
    from data_juicer.ops.deduplicator.image_deduplicator import ImageDeduplicator

    operator: Any = ImageDeduplicator(method=method)

    def hashing(files: Sequence[str]) -> list[str]:
        samples = [{"text": "", "images": [file]} for file in files]
        return [operator.compute_hash(sample)[_IMAGEHASH] for sample in samples]

    return hashing


_IMAGEHASH = "__dj__imagehash"
"""data_juicer's HashKeys.imagehash"""


def _check_process(method: str, files: Sequence[str], hashes: Sequence[str]) -> None:
    """Check that data-juicer's decision is what the equality of hashes says: the first stays."""
    from data_juicer.ops.deduplicator.image_deduplicator import ImageDeduplicator
    from datasets import Dataset

    rows = [{"file": file, _IMAGEHASH: code} for file, code in zip(files, hashes, strict=True)]
    kept, _ = ImageDeduplicator(method=method).process(Dataset.from_list(rows))
    first = {code: file for file, code in reversed(list(zip(files, hashes, strict=True)))}
    if set(kept["file"]) != set(first.values()):
        raise ValueError("data-juicer's process does not keep the first image of each hash")


METHODS: dict[str, Callable[[str], Hash]] = {
    "imagehash": _imagehash,
    "pdqhash": _pdqhash,
    "imagededup": _imagededup,
    "cleanvision": _cleanvision,
    "data-juicer": _data_juicer,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
