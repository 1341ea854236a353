"""A filter run's output: its decisions and its captions say what is learnt from."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from filters.rule import RecipeError
from pipelines.commands import main
from recaption.choice import choose_all
from recaption.choosing import Choose
from recaption.filter_run import FilterRun
from recaption.shards import generate_shard, score_shard
from tests.captioners import Echo, Lengths
from tests.shards import picture, write_parquet, write_shard
from tests.train.indexed import samples, texts
from train.index import Data, open_data
from train.mixing import Captions

CAPTIONS = {
    "kept": "a photo of a shoe",
    "short": "short",
    "blank": "",
    "small": "a photo of a small shoe",
    "other": "a photo of a dog",
    "lost": "a photo of a cat",
}
IMAGES = {key: picture(200 + n, 220) for n, key in enumerate(CAPTIONS, start=1)}
IMAGES |= {"small": picture(90, 90), "lost": b""}
RAW = {key: [[caption]] for key, caption in CAPTIONS.items()}


def tars(folder: Path) -> None:
    pairs = [(key, IMAGES[key] or None, caption) for key, caption in CAPTIONS.items()]
    write_shard(folder / "0", pairs)


def parquets(folder: Path) -> None:
    images = pa.array([image or None for image in IMAGES.values()], pa.binary())
    columns = {"key": list(CAPTIONS), "png": images, "caption": list(CAPTIONS.values())}
    write_parquet(folder / "0.parquet", columns, row_group_size=2)


@pytest.fixture(params=[tars, parquets], scope="module")
def crawl(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a crawl, `in`, and its filter run, `out`, without captions."""
    folder = tmp_path_factory.mktemp("crawl")
    writer: Callable[[Path], None] = request.param
    writer(folder / "in")
    run_filter(folder, "out")
    return folder


def run_filter(folder: Path, output: str, *changes: str) -> None:
    options = ["--set", "images.for_recaption=true", *changes, "--workers", "1"]
    source = ["--input", str(folder / "in"), "--output", str(folder / output)]
    assert main(["filter", *source, *options]) == 0


@pytest.fixture(scope="module")
def captioned(crawl: Path) -> Path:
    """Return the output of another run over the crawl, for which captions were chosen."""
    run_filter(crawl, "captioned")
    run = FilterRun(crawl / "captioned")
    for shard in run.shards:
        generate_shard(run, shard, Echo())
        score_shard(run, shard, Lengths())
    choose_all(run, Choose(min_itm_inclusive=0.05))
    return crawl / "captioned"


def opened(output: Path, folder: Path, pairs: str, *kinds: str) -> Data:
    captions = Captions(pairs=pairs, weights=dict.fromkeys(kinds, 1.0))
    return open_data([output], captions, folder / "index", workers=1)


def only(*keys: str) -> dict[str, list[list[str]]]:
    return {key: RAW[key] for key in keys}


@pytest.mark.parametrize("kind", ["raw", "chosen"])
@pytest.mark.parametrize(
    ("pairs", "keys", "left_out"),
    [
        ("all", ("kept", "short", "small", "other"), {"image_missing": 1, "caption_missing": 1}),
        ("kept", ("kept", "other"), {"image_missing": 1, "dropped": 3}),
        ("chosen", ("kept", "other"), {"image_missing": 1, "dropped": 3}),
    ],
)
def test_pairs_are_those_that_are_asked_for(  # what is asked, and what comes
    crawl: Path,
    tmp_path: Path,
    pairs: str,
    keys: tuple[str, ...],
    left_out: dict[str, int],
    kind: str,
) -> None:
    data = opened(crawl / "out", tmp_path, pairs, kind)

    assert texts(data) == only(*keys)
    assert {key: image for key, (image, _) in samples(data).items()} == {
        key: IMAGES[key] for key in keys
    }
    assert data.left_out == left_out


@pytest.mark.parametrize(
    ("pairs", "kind", "raw", "synthetic"),
    [
        ("all", "raw", ("kept", "short", "small", "other"), ()),
        ("kept", "raw", ("kept", "other"), ()),
        ("chosen", "raw", ("kept", "other"), ()),
        ("all", "synthetic", (), ("kept", "short", "blank", "other")),
        ("kept", "synthetic", (), ("kept", "other")),
        ("chosen", "synthetic", (), ("kept", "short", "blank", "other")),
        ("all", "chosen", ("kept", "other"), ("short", "blank")),
        ("kept", "chosen", ("kept", "other"), ()),
        ("chosen", "chosen", ("kept", "other"), ("short", "blank")),
    ],
)
def test_captions_are_those_that_are_asked_for(
    captioned: Path,
    tmp_path: Path,
    pairs: str,
    kind: str,
    raw: tuple[str, ...],
    synthetic: tuple[str, ...],
) -> None:
    found = texts(opened(captioned, tmp_path, pairs, kind))

    assert found.keys() == {*raw, *synthetic}
    assert {key: found[key] for key in raw} == only(*raw)
    assert all(found[key][0][0].startswith("echo ") for key in synthetic)


def test_both_captions_of_a_pair_can_be_mixed(captioned: Path, tmp_path: Path) -> None:
    found = texts(opened(captioned, tmp_path, "chosen", "raw", "synthetic"))

    assert {key: (len(raw), len(synthetic)) for key, (raw, synthetic) in found.items()} == {
        "kept": (1, 1),
        "short": (0, 1),
        "blank": (0, 1),
        "other": (1, 1),
    }


def test_captions_that_are_not_chosen_are_refused(crawl: Path, tmp_path: Path) -> None:
    run_filter(crawl, "unchosen")
    run = FilterRun(crawl / "unchosen")
    generate_shard(run, run.shards[0], Echo())

    with pytest.raises(RecipeError, match=r"0.parquet must be chosen by what is decided now"):
        opened(run.output, tmp_path, "chosen", "chosen")
    assert texts(opened(run.output, tmp_path, "kept", "raw")) == only("kept", "other")


def test_another_choice_is_another_index(captioned: Path, tmp_path: Path) -> None:
    before = texts(opened(captioned, tmp_path, "chosen", "chosen"))
    choose_all(FilterRun(captioned), Choose(rule="raw"))

    after = texts(opened(captioned, tmp_path, "chosen", "chosen"))

    choose_all(FilterRun(captioned), Choose(min_itm_inclusive=0.05))
    assert before.keys() == {"kept", "short", "blank", "other"}
    assert after == only("kept", "other")


@pytest.mark.parametrize("kind", ["synthetic", "alt"])
def test_captions_that_a_run_has_not_are_refused(crawl: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(RecipeError, match=f"captions.weights.{kind} must .* it has raw and chosen"):
        opened(crawl / "out", tmp_path, "kept", kind)


def test_an_input_that_is_gone_is_named(tmp_path: Path) -> None:
    tars(tmp_path / "in")
    run_filter(tmp_path, "out")
    (tmp_path / "in" / "0.tar").unlink()

    with pytest.raises(RecipeError, match=r"0.tar must still be there, as it was when"):
        opened(tmp_path / "out", tmp_path, "kept", "raw")


def test_shards_that_a_run_wrote_are_what_is_learnt_from_its_input(
    captioned: Path, tmp_path: Path
) -> None:
    assert main(["materialise", "--from", str(captioned), "--workers", "1"]) == 0

    shards = opened(captioned / "shards", tmp_path / "shards", "chosen", "chosen", "synthetic")

    run = opened(captioned, tmp_path / "run", "chosen", "chosen", "synthetic")
    assert samples(shards) == samples(run)
    assert samples(run).keys() == {"kept", "short", "blank", "other"}
