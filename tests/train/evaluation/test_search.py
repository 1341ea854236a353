"""Embeddings as clip-retrieval lays them out, and searches of them by images and words."""

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from filters.rule import RecipeError
from tests.train.evaluation.colours import COLOURS, ColourEncoder, picture, unit
from train.evaluation import search as module
from train.evaluation.embeddings import Index, Part, open_index, write_embeddings
from train.evaluation.search import make_query, search

NAMES = list(COLOURS)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Return the embeddings of two parts, of which one has an image that cannot be read."""
    first = Part([picture(c) for c in NAMES[:3]], [f"a {c} square" for c in NAMES[:3]], NAMES[:3])
    second = Part(
        [b"no image", *(picture(c) for c in NAMES[3:])],
        ["nothing", *(f"a {c} square" for c in NAMES[3:])],
        ["none", *NAMES[3:]],
    )
    counts = write_embeddings(ColourEncoder(), [first, second], tmp_path / "out")
    assert counts == {"pairs": 6, "missing": 0, "undecodable": 1, "too_large": 0}
    return open_index(tmp_path / "out")


def test_the_layout_is_that_of_clip_retrieval(index: Index) -> None:
    files = sorted(str(path.relative_to(index.folder)) for path in index.folder.rglob("*.*"))

    assert files == [
        "img_emb/img_emb_0.npy",
        "img_emb/img_emb_1.npy",
        "metadata/metadata_0.parquet",
        "metadata/metadata_1.parquet",
        "text_emb/text_emb_0.npy",
        "text_emb/text_emb_1.npy",
    ]
    rows = pq.read_table(index.folder / "metadata/metadata_1.parquet")
    images = np.load(index.folder / "img_emb/img_emb_1.npy")
    assert rows["caption"].to_pylist() == [f"a {c} square" for c in NAMES[3:]]
    assert rows["image_path"].to_pylist() == NAMES[3:]
    assert (images.shape, images.dtype) == ((3, 3), np.float16)


def test_words_find_images_in_all_parts(index: Index) -> None:
    hits = search(index, make_query(ColourEncoder(), texts=["something cyan"]), top=2)

    assert hits[0].about["caption"] == "a cyan square"
    assert hits[0].number == 5
    assert hits[0].cosine == pytest.approx(1, abs=1e-3)
    assert hits[1].about["caption"] == "a white square"


def test_words_are_added_to_images_and_taken_away(index: Index) -> None:
    encoder, red = ColourEncoder(), picture("red")

    def best(**asked: list[str]) -> str:
        hit = search(index, make_query(encoder, images=[red], text_weight=1, **asked), top=1)[0]
        return re.sub(r"a | square", "", hit.about["caption"])

    assert best() == "red"
    assert best(texts=["green"]) == "yellow"
    assert best(texts=["green", "blue"]) == "white"
    assert best(texts=["white"], without=["red"]) == "white"
    assert best(texts=["green"], without=["red"]) == "green"


def test_words_weigh_twice_what_an_image_weighs() -> None:
    query = make_query(ColourEncoder(), images=[picture("red")], texts=["green"])

    np.testing.assert_allclose(query, np.array([1, 2, 0]) / 5**0.5, atol=1e-6)


def test_faiss_and_the_plain_search_agree(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    faiss = pytest.importorskip("faiss", reason="an optional dependency")
    query = unit(np.array([[0.9, 0.4, 0.1]]))[0]
    plain = search(index, query, top=4)
    made = faiss.IndexFlatIP(3)
    made.add(np.concatenate(index.parts).astype(np.float32))
    faiss.write_index(made, str(index.folder / "image.index"))
    monkeypatch.setattr(module, "_by_all", lambda *_: pytest.fail("FAISS was not asked"))

    assert search(index, query, top=4) == plain


def test_without_faiss_all_are_looked_at(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    (index.folder / "image.index").write_bytes(b"an index")

    assert len(search(index, make_query(ColourEncoder(), texts=["red"]), top=9)) == 6


def test_a_query_of_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match="must have a text or an image, got neither"):
        make_query(ColourEncoder(), without=["red"])


def test_an_image_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(RecipeError, match="must be readable, got 1"):
        make_query(ColourEncoder(), images=[picture("red"), b"no image"])


def test_a_query_of_another_model_is_refused(index: Index) -> None:
    with pytest.raises(RecipeError, match="must be as wide as the index, 3, got 4"):
        search(index, np.ones(4))


def test_a_folder_without_embeddings_is_refused(tmp_path: Path, index: Index) -> None:
    (index.folder / "img_emb/img_emb_1.npy").unlink()

    with pytest.raises(RecipeError, match="of as many rows, got 3 and 6; embed again"):
        open_index(index.folder)
    with pytest.raises(RecipeError, match="must hold"):
        open_index(tmp_path)
