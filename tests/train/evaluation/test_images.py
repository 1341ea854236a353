"""Images of an evaluation: hostile ones are counted, and an encoder's own fault is not hidden."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filters.rule import RecipeError
from tests.train.evaluation.colours import ColourEncoder, picture
from train.evaluation import images as module
from train.evaluation.encoder import Floats, encode_texts
from train.evaluation.images import Place, embed

BAD = Path(__file__).parents[4] / "shared/data/badimg"


def test_each_fault_is_counted_and_the_others_keep_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    sink = io.BytesIO()
    Image.new("1", (14_000, 14_000)).save(sink, "PNG")
    sources = [
        picture("red"),
        Place(tmp_path / "nowhere.png"),
        b"",
        picture("blue")[:-30],
        sink.getvalue(),
        picture("green"),
    ]

    found = embed(ColourEncoder().encode_images, sources)

    assert found.at.tolist() == [0, 5]
    assert found.faults == {"missing": 1, "undecodable": 2, "too_large": 1}
    np.testing.assert_allclose(found.vectors, [[1, 0, 0], [0, 1, 0]], atol=1e-6)


def test_a_fault_of_the_encoder_is_not_blamed_on_the_images() -> None:
    def broken(_: Sequence[bytes]) -> Floats:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        embed(broken, [picture("red")] * 3)


def test_only_the_images_that_an_encoder_fails_for_are_left_out() -> None:
    asked: list[int] = []

    def picky(images: Sequence[bytes]) -> Floats:
        asked.append(len(images))
        if any(one == picture("red") for one in images):
            raise ValueError
        return ColourEncoder().encode_images(images)

    sources = [picture("blue")] * 64
    sources[37] = picture("red")

    found = embed(picky, sources)

    assert found.at.tolist() == [i for i in range(64) if i != 37]
    assert found.faults == {"undecodable": 1}
    assert len(asked) == 13  # the whole, and two halves of each of six


def test_no_image_at_all_is_told() -> None:
    with pytest.raises(RecipeError, match="images must be readable, got 2 undecodable"):
        embed(ColourEncoder().encode_images, [b"x", b"y"])


def test_embeddings_that_are_not_finite_are_told() -> None:
    class Diverged(ColourEncoder):
        def encode_texts(self, texts: Sequence[str]) -> Floats:
            return np.full((len(texts), 3), np.nan)

    with pytest.raises(RecipeError, match="texts must be finite, got NaN or infinity in 2 of 2"):
        encode_texts(Diverged(), ["a", "b"])


def test_hostile_files_end_nothing() -> None:
    if not BAD.exists():
        pytest.skip("needs shared/data/badimg")
    manifest = (BAD / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    names = [json.loads(line)["file"] for line in manifest]
    sources = [*(Place(BAD / "files" / name) for name in names[::8]), picture("red")]

    found = embed(ColourEncoder().encode_images, sources)

    assert len(found.at) + sum(found.faults.values()) == len(sources)
    assert found.faults["undecodable"] > 0
