"""Find the caption of an image among all captions, and the image of a caption among all images."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from filters.rule import RecipeError
from train.evaluation.encoder import Encoder, Floats, encode_texts
from train.evaluation.images import Embedded, Place, Source, embed
from train.evaluation.intervals import mean_interval
from train.evaluation.labelled import MANIFESTS, name_of, read_manifest, source_of
from train.evaluation.ranks import found_within
from train.evaluation.results import Result
from train.evaluation.tar_samples import read_samples

KS = (1, 5, 10)
CAPTIONS = 5
"""Of each image; some images of COCO have more, and published figures rest on the first five."""
FOLD = 1000
"""Images of a fold; the "1K" of COCO is the mean over five folds of its 5,000 test images.

Source: Karpathy and Fei-Fei (arXiv:1412.2306), section 4.2.
"""


@dataclass(frozen=True, slots=True)
class Captioned:
    """Images with one caption or more each."""

    name: str
    images: Sequence[Source]
    texts: Sequence[str]
    of: NDArray[np.int64]
    """Int64, (texts,): the image of each caption, ascending."""
    faults: dict[str, int] = field(default_factory=dict)


def open_captioned(path: Path, images: Path | None = None) -> Captioned:
    """Open a retrieval test set.

    Args:
        path: Karpathy's JSON, such as `dataset_flickr30k.json`, of which the split `test` is read;
            or a tar or a folder of tars with an image and a `.txt`, one caption a line, each; or a
            manifest, parquet or CSV, with the columns `image` (as in `labelled.open_labelled`) and
            `caption` (a string or several).
        images: The folder of the images that the JSON names.

    Raises:
        RecipeError: It is neither.
    """
    if path.suffix == ".json":
        if images is None:
            raise RecipeError(
                f"{path} must come with the folder of its images, got none; write "
                f"retrieval:{path}@FOLDER"
            )
        entries = read_karpathy(path)
        pairs = ((place_of(one, images), captions_of(one)) for one in entries)
        return _captioned(path.stem.removeprefix("dataset_"), pairs)
    if path.suffix in MANIFESTS:
        return _captioned(path.stem, _rows(path))
    tars = [path] if path.suffix == ".tar" else sorted(path.glob("*.tar"))
    if not tars:
        raise RecipeError(
            f"{path} must be Karpathy's JSON, a tar, a folder of tars or a manifest, got none; "
            "correct it"
        )
    damage: list[str] = []
    samples = (one for tar in tars for one in read_samples(tar, damage))
    found = ((one.image, one.texts.get("txt", "").splitlines()) for one in samples)
    return _captioned(name_of(path), found)


def _rows(path: Path) -> Iterator[tuple[Source | None, list[str]]]:
    rows = read_manifest(path, {"image", "caption"})
    for image, said in zip(rows["image"].to_pylist(), rows["caption"].to_pylist(), strict=True):
        captions = said if isinstance(said, list) else [said]
        yield source_of(image, path.parent), [one for one in captions if one]


def read_karpathy(path: Path, split: str = "test") -> list[dict[str, Any]]:
    """Read the entries of a split of Karpathy's JSON.

    Raises:
        RecipeError: It is no such file, or the split is empty.
    """
    try:
        every = json.loads(path.read_text(encoding="utf-8"))["images"]
        entries = [one for one in every if one["split"] == split]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"{path} must be Karpathy's JSON with images and their split, got: {error!r}; "
            "correct the path"
        ) from None
    if not entries:
        raise RecipeError(f"{path} must have images of the split {split}, got none; correct it")
    return entries


def place_of(entry: dict[str, Any], images: Path) -> Place:
    """Return where an entry's image lies: COCO's may lie in `val2014` or right in the folder."""
    nested = images / entry.get("filepath", "") / entry["filename"]
    return Place(nested if nested.exists() else images / entry["filename"])


def captions_of(entry: dict[str, Any]) -> list[str]:
    """Return the captions of an entry that count."""
    return [sentence["raw"].strip() for sentence in entry["sentences"][:CAPTIONS]]


def _captioned(name: str, pairs: Iterable[tuple[Source | None, list[str]]]) -> Captioned:
    faults: Counter[str] = Counter()
    images: list[Source] = []
    texts: list[str] = []
    of: list[int] = []
    for image, captions in pairs:
        said = [caption for caption in captions if caption.strip()]
        if image is None or not said:
            faults["no_image" if image is None else "no_caption"] += 1
            continue
        of += [len(images)] * len(said)
        texts += said
        images.append(image)
    if not images:
        raise RecipeError(f"{name} must have images with captions, got none; correct the path")
    return Captioned(name, images, texts, np.array(of), dict(faults))


def retrieval(encoder: Encoder, data: Captioned) -> Result:
    """Measure retrieval both ways; an image that cannot be read goes with its captions."""
    images = embed(encoder.encode_images, data.images)
    some = np.isin(data.of, images.at)
    of = np.searchsorted(images.at, data.of[some])
    captions = [text for text, stays in zip(data.texts, some, strict=True) if stays]
    texts = encode_texts(encoder, captions)
    metrics, intervals = recalls(images.vectors, texts, of)
    if len(images.at) > FOLD and len(images.at) % FOLD == 0:
        metrics |= _in_folds(images, texts, of)
    return Result(
        dataset=data.name,
        task="zeroshot_retrieval",
        metrics=metrics,
        intervals=intervals,
        counts={
            "images": len(images.at),
            "texts": len(of),
            "distinct_texts": len(set(captions)),
        },
        faults=data.faults | images.faults,
    )


def recalls(
    images: Floats, texts: Floats, of: NDArray[np.int64]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return the recalls by clip_benchmark's names, and their intervals.

    An image's captions are all right for it: one of them among the k nearest is enough.

    Args:
        images: (n, d).
        texts: (m, d).
        of: The image of each text, ascending; every image has one or more.
    """
    numbers = np.arange(len(images))
    by_text = found_within(texts, images, lambda rows: of[rows, None] == numbers, KS)
    by_image = found_within(images, texts, lambda rows: numbers[rows, None] == of, KS)
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for name, found, owner in (("image", by_text, of), ("text", by_image, numbers)):
        for k, column in zip(KS, found.T, strict=True):
            metrics[f"{name}_retrieval_recall@{k}"] = float(column.mean())
            ends = mean_interval(column, owner, len(images))
            intervals[f"{name}_retrieval_recall@{k}"] = ends
    return metrics, intervals


def _in_folds(images: Embedded, texts: Floats, of: NDArray[np.int64]) -> dict[str, float]:
    folds: list[dict[str, float]] = []
    for first in range(0, len(images.at), FOLD):
        some = (of >= first) & (of < first + FOLD)
        vectors = images.vectors[first : first + FOLD]
        folds.append(recalls(vectors, texts[some], of[some] - first)[0])
    return {f"{name}_1k": float(np.mean([fold[name] for fold in folds])) for name in folds[0]}
