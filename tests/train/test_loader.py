"""Loader: the same batches in the same order, wherever a run goes on."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from filters.rule import RecipeError  # noqa: E402
from tests.shards import photo, picture, write_tar  # noqa: E402
from tests.train.corpora import (  # noqa: E402
    PX,
    UNEVEN,
    WRITERS,
    opened,
    pairs,
    settings,
    tokenizer,
    write_tars,
)
from train.batch import Batch  # noqa: E402
from train.index import Data, open_data  # noqa: E402
from train.loader import Loader  # noqa: E402
from train.mixing import Captions  # noqa: E402

KEYS = sorted(key for some in pairs() for key, _, _ in some)
NUM = len(KEYS)


@pytest.fixture(params=WRITERS)
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Data:
    return opened(WRITERS[request.param](tmp_path / "data"))


def loader(data: Data, **changes: Any) -> Loader:
    told = {"px": PX, "batch": 4, "seed": 3, "rank": 0, "ranks": 1} | changes
    chosen = told.pop("settings", settings())
    return Loader(data, chosen, tokenizer(), **told)


def taken(of: Loader, count: int) -> list[Batch]:
    batches = iter(of)
    try:
        return list(islice(batches, count))
    finally:
        batches.close()  # type: ignore[attr-defined]


def assert_same(some: Sequence[Batch], others: Sequence[Batch]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.keys == other.keys
        for name in ("images", "tokens", "mask", "texts"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("ranks", [1, 2, 3, len(UNEVEN) + 2])
def test_every_sample_comes_once_in_an_epoch_whatever_the_ranks(data: Data, ranks: int) -> None:
    epochs = 3

    steps = -(-epochs * NUM // (2 * ranks))
    of_ranks = [
        taken(loader(data, batch=2, rank=rank, ranks=ranks), steps) for rank in range(ranks)
    ]

    keys = [
        key for batches in zip(*of_ranks, strict=True) for batch in batches for key in batch.keys
    ]
    in_epochs = [keys[epoch * NUM : (epoch + 1) * NUM] for epoch in range(epochs)]
    assert [sorted(some) for some in in_epochs] == [KEYS] * epochs
    assert in_epochs[0] != in_epochs[1]


def test_a_global_batch_is_the_same_on_one_rank_and_on_three(data: Data) -> None:
    whole = taken(loader(data, batch=6), 9)

    shares = [taken(loader(data, batch=2, rank=rank, ranks=3), 9) for rank in range(3)]

    for place, batch in enumerate(whole):
        images = torch.cat([share[place].images for share in shares])
        assert batch.keys == [key for share in shares for key in share[place].keys]
        assert torch.equal(batch.images, images)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_resumed_loader_gives_the_batches_that_were_left(data: Data, ranks: int) -> None:
    steps = 10
    told = {"batch": 4 // ranks, "rank": ranks - 1, "ranks": ranks}
    whole = taken(loader(data, **told), steps)

    for done in range(steps):
        first = loader(data, **told)
        taken(first, done)
        state = json.loads(json.dumps(first.state_dict()))

        assert_same(taken(loader(data, **told, state=state), steps - done), whole[done:])


def test_a_run_goes_on_with_another_number_of_ranks(data: Data) -> None:
    whole = taken(loader(data, batch=6), 8)
    alone = loader(data, batch=6)
    taken(alone, 3)

    shares = [
        taken(loader(data, batch=2, rank=rank, ranks=3, state=alone.state_dict()), 5)
        for rank in range(3)
    ]

    steps = zip(*shares, strict=True)
    keys = [[key for batch in batches for key in batch.keys] for batches in steps]
    assert keys == [batch.keys for batch in whole[3:]]


@pytest.mark.parametrize("changes", [{"threads": 1}, {"threads": 7}, {"prefetch": 0}])
def test_batches_do_not_depend_on_threads(data: Data, changes: dict[str, int]) -> None:
    assert_same(taken(loader(data, settings=settings(**changes)), 15), taken(loader(data), 15))


def test_a_batch_is_what_a_model_eats(tmp_path: Path) -> None:
    data = opened(write_tars(tmp_path / "data"))

    batch = taken(loader(data), 1)[0]

    assert batch.images.shape == (4, 3, PX, PX)
    assert batch.images.dtype == torch.uint8
    assert batch.tokens.shape == batch.mask.shape == (4, 10)
    assert (batch.tokens.dtype, batch.mask.dtype) == (torch.int64, torch.bool)
    captions = {key: caption for some in pairs() for key, _, caption in some}
    ids, mask = tokenizer().encode([captions[key] for key in batch.keys])
    assert torch.equal(batch.tokens, torch.from_numpy(ids))
    assert torch.equal(batch.mask, torch.from_numpy(mask).bool())


def test_captions_and_windows_change_from_epoch_to_epoch(tmp_path: Path) -> None:
    members = [
        (f"{row}.{extension}", content)
        for row in range(8)
        for extension, content in (
            ("png", photo(row, 40, 40, "PNG")),
            ("json", b'{"a": "picture 1", "b": "picture 2"}'),
        )
    ]
    write_tar(tmp_path / "data" / "0.tar", members)
    captions = Captions(weights={"a": 1.0, "b": 3.0})
    data = open_data([tmp_path / "data"], captions, tmp_path / "index", workers=1)

    epochs = taken(loader(data, batch=8), 100)

    by_key = [
        dict(zip(one.keys, zip(one.texts, one.images, strict=True), strict=True)) for one in epochs
    ]
    numbers = Counter(int(number) for one in by_key for number, _ in one.values())
    windows = {image.numpy().tobytes() for one in by_key for image in [one["3"][1]]}
    # of 800 draws with probability 1/4, the standard error is 12.2
    assert len(numbers) == 2
    assert abs(min(numbers.values()) - 200) < 4 * 12.2
    # 25 windows, mirrored or not: of 50 kinds, 100 draws give 43 on average
    assert 30 < len(windows) <= 50


def test_equal_captions_have_equal_numbers(tmp_path: Path) -> None:
    captions = {"a": "picture 1", "b": "PICTURE  1", "c": "picture 2"}
    members = [
        (f"{key}.{extension}", content)
        for key, caption in captions.items()
        for extension, content in (("png", picture(20, 20)), ("txt", caption.encode()))
    ]
    write_tar(tmp_path / "data" / "0.tar", members)

    batch = taken(loader(opened(tmp_path / "data"), batch=3), 1)[0]

    number = dict(zip(batch.keys, batch.texts.tolist(), strict=True))
    assert number["a"] == number["b"] != number["c"]


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


def num_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open(data: Data) -> None:
    before = num_open()

    taken(loader(data), 3)

    assert num_open() == before


def test_only_the_shards_that_are_mixed_are_open(tmp_path: Path) -> None:
    data = opened(write_tars(tmp_path / "data", (8,) * 40))
    before = num_open()
    batches = iter(loader(data, settings=settings(shuffle_shards=2, threads=1, prefetch=20)))

    opens = [num_open() - before for _ in islice(batches, 80)]

    batches.close()  # type: ignore[attr-defined]
    assert max(opens) <= 2 * 2 + 1  # two blocks, and a file of an index


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": sum(UNEVEN) + 1}, "must have from 1 sample to all 25"),
        ({"batch": 0}, "must have from 1 sample"),
        ({"px": 21}, "images.resize_px must be at least the model's 21 px, got 20"),
        ({"state": {"epoch": 0, "position": 4, "of": "other"}}, "those that the run began with"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    data = opened(write_tars(tmp_path / "data"))

    with pytest.raises(RecipeError, match=message):
        loader(data, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": -1}, "loader.threads must be at least 0, got -1"),
        ({"shuffle_mib": 0}, "loader.shuffle_mib must be at least 1, got 0"),
        ({"max_bad_share": 1.5}, "loader.max_bad_share must be from 0 to 1, got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        settings(**changes)
