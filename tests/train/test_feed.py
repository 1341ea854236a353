"""A fed batch comes with where the loader was after it, and no later."""

import itertools
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.train.corpora import PX, opened, settings, tokenizer, write_tars  # noqa: E402
from train.feed import Feed  # noqa: E402
from train.loader import Loader  # noqa: E402


def test_what_was_fed_and_the_position_beside_it_belong_together(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    data = opened(write_tars(tmp_path / "shards", (9, 6)))

    def loader(state: dict[str, object] | None = None) -> Loader:
        return Loader(data, settings(), tokenizer(), px=PX, batch=4, seed=3, state=state)

    feed = Feed(loader(), torch.device("cpu"))
    fed = [feed.next() for _ in range(6)]

    for before, after in itertools.pairwise(fed):
        again = Feed(loader(before.position), torch.device("cpu")).next()
        assert again.batch.keys == after.batch.keys
        assert torch.equal(again.batch.images, after.batch.images)
        assert again.position == after.position
    assert all(one.waited_s >= 0 and one.bad == {} for one in fed)
