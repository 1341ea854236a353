"""What is made of held-out pairs is what a slow and plain count makes of them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from filters.parsing import read_table  # noqa: E402
from filters.rule import RecipeError  # noqa: E402
from tests.train.corpora import pairs, tokenizer, write_tars  # noqa: E402
from tests.train.runs import RECIPE  # noqa: E402
from train.distributed import World  # noqa: E402
from train.dual_encoder import DualEncoder  # noqa: E402
from train.images import read_image  # noqa: E402
from train.index import Data, open_data  # noqa: E402
from train.settings import Settings, settings_of  # noqa: E402
from train.validation import Validation  # noqa: E402

ALONE = World(torch.device("cpu"))


def settings(count: int = 100) -> Settings:
    table = read_table(RECIPE, "tiny", (f"validation.pairs={count}", "model.vocabulary=1"))
    return settings_of(table, "tiny")


def held_out(folder: Path) -> Data:
    (folder / "shards").mkdir()
    write_tars(folder / "shards", (40, 20))
    data = open_data([folder / "shards"], settings().captions, folder / "index", 0.5)
    return data.part(held_out=True)


def encoder() -> DualEncoder:
    torch.manual_seed(0)
    size = len(tokenizer().vocabulary)
    return DualEncoder(replace(settings().model, vocabulary=size, dropout=0.0))


def test_the_loss_and_the_recalls_are_those_of_a_plain_count(tmp_path: Path) -> None:
    data, model = held_out(tmp_path), encoder()

    told = Validation(settings(), data, tokenizer(), ALONE)(model)

    every = [one for some in pairs((40, 20)) for one in some]
    keys = [key for unit in data.units for key in _keys(unit)]
    chosen = [one for key in keys for one in every if one[0] == key]
    ids, mask = tokenizer().encode([text for *_, text in chosen])
    squares = [read_image(image, settings().loader.images, 16) for _, image, _ in chosen]
    with torch.no_grad():
        images = model.encode_image(torch.from_numpy(np.stack(squares)))
        texts = model.encode_text(torch.from_numpy(ids), torch.from_numpy(mask).bool())
        logits = model.log_scale.exp() * images @ texts.T
    right = torch.arange(len(chosen))
    both = sum(torch.nn.functional.cross_entropy(one, right) for one in (logits, logits.T))
    assert told["loss"] == pytest.approx(float(both), rel=1e-5)
    assert told["text_retrieval_recall@1"] == pytest.approx(
        (logits.argmax(1) == right).float().mean().item()
    )
    assert told["image_retrieval_recall@1"] == pytest.approx(
        (logits.argmax(0) == right).float().mean().item()
    )


def _keys(unit: object) -> list[str]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(unit.index) as file:  # type: ignore[attr-defined]
        return file.read_row_group(unit.index_group)["key"].to_pylist()  # type: ignore[attr-defined]


def test_a_model_that_knows_nothing_has_the_loss_and_recall_of_chance(tmp_path: Path) -> None:
    data, model = held_out(tmp_path), encoder()
    with torch.no_grad():
        for projection in (model.image_projection, model.text_projection):
            projection.weight.zero_()
            projection.bias.fill_(1)

    told = Validation(settings(), data, tokenizer(), ALONE)(model)

    assert told["loss"] == pytest.approx(2 * math.log(data.num_samples), rel=1e-5)
    assert told["image_retrieval_recall@1"] == pytest.approx(1 / data.num_samples)


def test_no_more_pairs_than_asked_for_are_read_evenly(tmp_path: Path) -> None:
    data = held_out(tmp_path)

    validation = Validation(settings(8), data, tokenizer(), ALONE)

    assert len(validation._images) == 8  # noqa: SLF001  # nothing else tells
    assert data.num_samples > 8


def test_too_few_held_out_pairs_are_told(tmp_path: Path) -> None:
    data = held_out(tmp_path)

    with pytest.raises(RecipeError, match=r"must leave two pairs or more that can be read, got 0"):
        Validation(settings(), data.part(held_out=False), tokenizer(), ALONE)
