"""Images with one label each: folders of classes, tars with `.cls`, or a manifest."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from filters.rule import RecipeError
from pipelines.photographs import SPLITS
from train.evaluation.images import SUFFIXES, Place, Source
from train.evaluation.tar_samples import read_samples
from train.evaluation.templates import parse_templates

CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
MANIFESTS = (".parquet", ".csv", ".tsv")
LABEL = "label"
"""What a label is called where nothing else is said."""
Label = str | int


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images and which class each is of."""

    name: str
    classes: tuple[str, ...]
    """As sentences name them."""
    images: Sequence[Source]
    labels: NDArray[np.int64]
    """Int64, (n,): places in `classes`."""
    faults: dict[str, int] = field(default_factory=dict)
    """How many samples had no image, or no label."""
    templates: tuple[str, ...] = ()
    """Those that lie beside the data."""

    def some(self, at: NDArray[np.int64]) -> "Labelled":
        """Return a part of the images, with all classes."""
        return replace(self, images=[self.images[i] for i in at], labels=self.labels[at])


def open_labelled(path: Path, split: str = "", label: str = LABEL) -> Labelled:
    """Open labelled images.

    Args:
        path: A folder with a folder of images for each class; a tar or a folder of tars, as
            webdataset and clip_benchmark write them, with `.cls` members or `label` in `.json`; or
            a manifest, parquet or CSV, with the columns `image` (bytes, which are held in memory,
            or a path relative to the manifest), `label` and, for a split, `split`.
        split: One of `SPLITS`, if not all; a folder's is a folder in it.
        label: Of tars, what the label is called in `.json`; several, such as `colour+shape`, are
            one label together, whose name is added to that of the data.

    Raises:
        RecipeError: There is nothing of that kind.
    """
    if path.suffix in MANIFESTS:
        return from_rows(read_manifest(path, {"image", "label"}), path, split)
    if path.is_dir() and split:
        path = _split_folder(path, split)
    if not path.exists():
        raise RecipeError(f"{path} must be a folder, a tar or a manifest, got nothing; correct it")
    tars = [path] if path.suffix == ".tar" else sorted(path.glob("*.tar"))
    return _from_tars(path, tars, label) if tars else _from_folders(path)


def has_split(path: Path, split: str) -> bool:
    """Tell whether there is such a part: a folder, or rows of a manifest."""
    if path.is_dir():
        return any((path / name).is_dir() for name in SPLITS[split])
    rows = read_manifest(path, {"label"})
    return "split" in rows.column_names and any(
        name in SPLITS[split] for name in rows["split"].unique().to_pylist()
    )


def read_manifest(path: Path, needed: set[str]) -> pa.Table:
    """Read a manifest's rows.

    Raises:
        RecipeError: It cannot be read, or a column is missing.
    """
    try:
        if path.suffix == ".parquet":
            rows = pq.read_table(path)
        else:
            separator = "\t" if path.suffix == ".tsv" else ","
            options = pyarrow.csv.ParseOptions(delimiter=separator)
            rows = pyarrow.csv.read_csv(path, parse_options=options)
    except (OSError, pa.ArrowInvalid) as error:
        raise RecipeError(f"{path} must be parquet or CSV, got: {error}; correct it") from None
    missing = sorted(needed - set(rows.column_names))
    if missing:
        raise RecipeError(
            f"{path} must have the columns {', '.join(sorted(needed))}, got no "
            f"{' and no '.join(missing)} among {', '.join(rows.column_names)}; rename or add them"
        )
    return rows


def from_rows(rows: pa.Table, path: Path, split: str = "", name: str = "") -> Labelled:
    """Make a data set of a manifest's rows; see `open_labelled`."""
    every = rows["label"].drop_null().unique().to_pylist()
    if split:
        _need_split(rows, path, split)
        wanted = pa.array(SPLITS[split])
        rows = rows.filter(pa.compute.is_in(rows["split"], value_set=wanted))
    pairs = (
        (source_of(image, path.parent), label)
        for image, label in zip(rows["image"].to_pylist(), rows["label"].to_pylist(), strict=True)
    )
    return _named(name or path.stem, pairs, path.parent, every)


def name_of(path: Path) -> str:
    """Return a data set's name: a split's folder says nothing alone."""
    path = path.resolve()
    stem = path.stem if path.is_file() else path.name
    known = {name for names in SPLITS.values() for name in names}
    return f"{path.parent.name}-{stem}" if stem in known else stem


def _need_split(rows: pa.Table, path: Path, split: str) -> None:
    known = rows["split"].unique().to_pylist() if "split" in rows.column_names else []
    if not set(known) & set(SPLITS[split]):
        raise RecipeError(
            f"{path} must have rows whose split is {SPLITS[split][0]}, got "
            f"{', '.join(map(str, known)) or 'no column split'}; add them"
        )


def source_of(image: Any, folder: Path) -> Source | None:
    """Return what a manifest's cell tells of an image."""
    if isinstance(image, dict):  # as `datasets` stores images
        image = image.get("bytes") or image.get("path")
    return Place(folder / image) if isinstance(image, str) else image


def _split_folder(path: Path, split: str) -> Path:
    for name in SPLITS[split]:
        if (path / name).is_dir():
            return path / name
    found = ", ".join(sorted(one.name for one in path.iterdir() if one.is_dir())) or "no folder"
    raise RecipeError(f"{path} must have a folder {SPLITS[split][0]}, got {found[:200]}; add it")


def _from_folders(path: Path) -> Labelled:
    folders = sorted(one for one in path.iterdir() if one.is_dir()) if path.is_dir() else []
    if not folders:
        raise RecipeError(f"{path} must hold a folder for each class, or tars, got none; add them")
    pairs = (
        (Place(file), folder.name)
        for folder in folders
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in SUFFIXES
    )
    every = [folder.name for folder in folders]
    return _named(name_of(path), pairs, path, every, by_folder=True)


def _from_tars(path: Path, tars: Sequence[Path], label: str) -> Labelled:
    damage: list[str] = []
    pairs = [
        (sample.image, _label(sample.texts, label))
        for tar in tars
        for sample in read_samples(tar, damage)
    ]
    folder = tars[0].parent
    beside = folder if (folder / CLASS_NAMES).exists() else folder.parent
    every = list({one for _, one in pairs if one is not None})
    name = name_of(path) if label == LABEL else f"{name_of(path)}-{label}"
    found = _named(name, pairs, beside, every)
    return replace(found, faults=found.faults | ({"damage": len(damage)} if damage else {}))


def _label(texts: dict[str, str], called: str) -> Label | None:
    if "cls" in texts and called == LABEL:
        text = texts["cls"].strip()
        return int(text) if text.isdecimal() else text or None
    try:
        record = json.loads(texts.get("json", "null"))
        labels = [record[name] for name in called.split("+")]
    except (ValueError, TypeError, KeyError):
        return None
    if not all(isinstance(label, str | int) for label in labels):
        return None
    return labels[0] if len(labels) == 1 else " ".join(map(str, labels))


def _named(
    name: str,
    pairs: Iterable[tuple[Source | None, Label | None]],
    folder: Path,
    every: Sequence[Label],
    *,
    by_folder: bool = False,
) -> Labelled:
    """Number the labels; names that lie beside the data are those of the sorted labels."""
    faults: Counter[str] = Counter()
    good = [*_complete(pairs, faults)]
    if not good:
        raise RecipeError(
            f"{name} must have images with labels, got none of them in {folder}; add some"
        )
    given = _read_lines(folder / CLASS_NAMES)
    places = _places(every, numbered=bool(given))
    names = given or [_spoken(str(label)) if by_folder else str(label) for label in places]
    _need_names(names, places, folder)
    templates = folder / TEMPLATES
    return Labelled(
        name=name,
        classes=tuple(names),
        images=[image for image, _ in good],
        labels=np.array([places[label] for _, label in good], np.int64),
        faults=dict(faults),
        templates=parse_templates(templates.read_text(encoding="utf-8"), str(templates))
        if templates.exists()
        else (),
    )


def _complete(
    pairs: Iterable[tuple[Source | None, Label | None]], faults: Counter[str]
) -> Iterator[tuple[Source, Label]]:
    for image, label in pairs:
        if image is None:
            faults["no_image"] += 1
        elif label is None:
            faults["no_label"] += 1
        else:
            yield image, label


def _places(labels: Sequence[Label], *, numbered: bool) -> dict[Label, int]:
    """Return the place of each label: the number itself where a file names the numbers."""
    if numbered and all(isinstance(label, int) for label in labels):
        return {label: int(label) for label in labels}
    return {label: i for i, label in enumerate(sorted(labels, key=_order))}


def _order(label: Label) -> tuple[bool, int, str]:
    return (isinstance(label, str), label if isinstance(label, int) else 0, str(label))


def _spoken(folder: str) -> str:
    return folder.replace("_", " ")


def _read_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _need_names(names: Sequence[str], places: dict[Label, int], folder: Path) -> None:
    highest = max(places.values())
    if len(names) <= highest or min(places.values()) < 0:
        raise RecipeError(
            f"{folder / CLASS_NAMES} must name every class, got {len(names)} names for labels up "
            f"to {highest}; add the others"
        )
