"""The test on planted truth tells true from spurious features, on seen and held-out pairs."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from filters.rule import RecipeError
from pipelines.classes import SCENES
from pipelines.mixture import HELD_OUT, Mixture, partner_of
from pipelines.photographs import open_album
from pipelines.sample import write_sample
from tests.train.evaluation.colours import COLOURS, ColourEncoder, directions, write_folders
from train.evaluation.encoder import Floats
from train.evaluation.planted import margins, places_of_partners, planted

CLASSES = [" ".join(pair) for pair in SCENES.partners]
PARTNERS = places_of_partners(SCENES)


class Knowing(ColourEncoder):
    """Knows what each picture of a sample shows, and takes a share of the partner for it."""

    def __init__(self, truth: Sequence[str], spurious: float) -> None:
        self.truth, self.spurious = truth, spurious

    def encode_images(self, images: Sequence[bytes]) -> Floats:
        vectors = np.zeros((len(images), len(CLASSES)))
        for row in range(len(images)):
            place = CLASSES.index(self.truth[row])
            vectors[row, place] = 1 - self.spurious
            vectors[row, PARTNERS[place]] = self.spurious
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        names = [text.removeprefix("a photo of a ").removesuffix(".") for text in texts]
        return np.eye(len(CLASSES), dtype=np.float32)[[CLASSES.index(name) for name in names]]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "test"
    write_sample(folder, rows=120, seed=5, mixture=Mixture(shares={}, side_px=24))
    return folder


def truth_of(sample: Path) -> list[str]:
    import pyarrow.parquet as pq

    rows = pq.read_table(sample / "00000.parquet", columns=["colour", "shape"]).to_pylist()
    return [f"{row['colour']} {row['shape']}" for row in rows]


def test_margins_are_those_of_a_plain_loop() -> None:
    cosines = directions(20, len(CLASSES), 1).astype(np.float64)
    labels = np.random.default_rng(0).integers(0, len(CLASSES), 20)

    true, spurious = margins(cosines, labels, PARTNERS)

    for row, label in enumerate(labels):
        partner = PARTNERS[label]
        rest = [cosines[row, k] for k in range(len(CLASSES)) if k not in (label, partner)]
        mean = sum(rest) / len(rest)
        assert math.isclose(true[row], cosines[row, label] - mean)
        assert math.isclose(spurious[row], cosines[row, partner] - mean)


def test_a_partner_is_that_of_the_corpus() -> None:
    for place, name in enumerate(CLASSES):
        colour, shape = name.split()
        assert CLASSES[PARTNERS[place]] == " ".join(partner_of(colour, shape))


def test_a_model_that_knows_the_truth_has_no_spurious_margin(sample: Path) -> None:
    seen, held_out = planted(Knowing(truth_of(sample), 0.0), sample)

    assert (seen.dataset, held_out.dataset) == ("test-seen", "test-held-out")
    for one in (seen, held_out):
        assert one.metrics["acc1"] == one.metrics["colour_acc1"] == one.metrics["shape_acc1"] == 1
        assert one.metrics["true_margin"] == 1
        assert one.metrics["spurious_margin"] == 0
        assert one.metrics["alignment"] == pytest.approx(0)
    names = {" ".join(pair) for pair in HELD_OUT}
    assert held_out.counts["images"] == sum(name in names for name in truth_of(sample))
    assert seen.counts["images"] + held_out.counts["images"] == 120


def test_a_model_that_mixes_both_has_equal_margins(sample: Path) -> None:
    seen, _ = planted(Knowing(truth_of(sample), 0.5), sample)

    assert seen.metrics["true_margin"] == pytest.approx(seen.metrics["spurious_margin"])
    assert seen.metrics["true_margin"] == pytest.approx(math.sqrt(0.5))


def test_a_model_that_took_the_partner_for_the_truth_is_never_right(sample: Path) -> None:
    seen, _ = planted(Knowing(truth_of(sample), 1.0), sample)

    for name in ("acc1", "colour_acc1", "shape_acc1"):
        assert seen.metrics[name] == 0


def test_the_classes_of_found_pictures_are_those_of_their_sample(tmp_path: Path) -> None:
    album = open_album(
        write_folders(tmp_path / "flags"), part="all", seed=0, skip=0, rows=None, side_px=24
    )
    write_sample(tmp_path / "s", rows=18, mixture=Mixture(shares={}, album=album))

    [found] = planted(ColourEncoder(), tmp_path / "s")

    assert found.dataset == "s-seen"
    assert found.counts == {"images": 18, "classes": 6, "templates": 1}
    assert {"acc1", "true_margin", "silhouette"} <= {*found.metrics}
    assert not {"colour_acc1", "shape_acc1"} & {*found.metrics}
    assert found.metrics["acc1"] == 1
    names = sorted(COLOURS)
    texts = ColourEncoder().encode_texts(names).astype(np.float64)
    plain = []
    for at, one in enumerate(texts):
        cosines = texts @ one
        partner = (at + 1) % len(names)
        rest = [cosines[k] for k in range(len(names)) if k not in (at, partner)]
        plain.append(cosines[partner] - sum(rest) / len(rest))
    assert found.metrics["spurious_margin"] == pytest.approx(np.mean(plain), abs=0.02)


def test_pictures_of_anything_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="must be a sample of coloured shapes, got"):
        planted(ColourEncoder(), write_folders(tmp_path / "flags"))
