"""Bad samples: counted, and replaced by others, the same ones again."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from filters.rule import RecipeError  # noqa: E402
from tests.shards import picture, write_tar  # noqa: E402
from tests.train.corpora import (  # noqa: E402
    WRITERS,
    opened,
    settings,
    write_tars,
)
from tests.train.loading import assert_same, loader, taken  # noqa: E402
from train.index import Data  # noqa: E402


def damaged(folder: Path, bad: Sequence[int]) -> Data:
    """Write a shard of 20 samples of which some are damaged."""
    members = []
    for row in range(20):
        image = picture(24, 24, "JPEG")
        members.append((f"{row:04d}.jpg", image[:-30] if row in bad else image))
        members.append((f"{row:04d}.txt", b"picture"))
    write_tar(folder / "data" / "0.tar", members)
    return opened(folder / "data")


def test_a_bad_sample_is_counted_and_replaced_the_same_way_again(tmp_path: Path) -> None:
    data = damaged(tmp_path, bad=[3, 11])
    whole = loader(data, batch=4)

    batches = taken(whole, 5)

    keys = [key for batch in batches for key in batch.keys]
    assert len(keys) == 20
    assert set(keys) == {f"{row:04d}" for row in range(20) if row not in (3, 11)}
    assert (whole.bad["image_undecodable"] >= 2, whole.seen) == (True, 20)
    again = loader(data, batch=4)
    taken(again, 2)
    assert_same(taken(loader(data, batch=4, state=again.state_dict()), 3), batches[2:])


def test_too_many_bad_samples_stop_the_run(tmp_path: Path) -> None:
    data = damaged(tmp_path, bad=[3, 11, 12])
    strict = loader(data, batch=20, settings=settings(max_bad_share=0.002))

    with pytest.raises(RecipeError, match=r"must be 0.2% at most, got \d+ beside 20 that were"):
        taken(strict, 1)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("reason", ["shard_missing", "shard_changed"])
def test_a_shard_that_vanishes_is_replaced_by_what_is_mixed_with_it(
    tmp_path: Path, kind: str, reason: str
) -> None:
    source = WRITERS[kind](tmp_path / "data", (30, 30))
    data = opened(source)
    gone = source / f"00000.{kind}"
    if reason == "shard_missing":
        gone.unlink()
    else:
        gone.write_bytes(gone.read_bytes() + b"\0")

    whole = loader(data, settings=settings(shuffle_shards=100, max_bad_share=1))
    batches = taken(whole, 15)

    keys = Counter(key for batch in batches for key in batch.keys)
    assert set(keys) <= {f"001{row:04d}" for row in range(30)}
    assert keys.total() == 60
    assert whole.bad.keys() == {reason}
    assert whole.bad[reason] >= 30
    assert_same(
        taken(loader(data, settings=settings(shuffle_shards=100, max_bad_share=1)), 15), batches
    )


def test_a_shard_that_vanishes_alone_stops_the_run_with_a_sentence(tmp_path: Path) -> None:
    source = write_tars(tmp_path / "data", (40, 40))
    batches = iter(loader(opened(source), settings=settings(shuffle_shards=1, prefetch=0)))
    next(batches)
    for path in source.glob("*.tar"):
        path.unlink()

    with pytest.raises(RecipeError, match=r"got none in 32 draws: shard_missing 32.*\.tar"):
        list(islice(batches, 20))  # the open one is read to its end
