"""Same input, same recipe, same code: same bytes, however the work is cut and carried."""

import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from filters.parsing import from_dict
from filters.recipe import Recipe
from pipelines import rows
from pipelines.plan import plan_filter, read_recipe
from pipelines.run import run_filter
from tests import crawls
from tests.outputs import files_of, found_by, rows_of, table_rows
from tests.shards import picture, write_shard

WORDS = ("red", "blue", "shoe", "dog", "cat", "photo", "of", "grass", "\u00fcber", "stra\u00dfe")
SHARDS = 4
REPEAT = "--direct_runner_bundle_repeat=1"
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # to shrink takes hundreds of runs

Pair = tuple[str, bytes | None, str | None]


@pytest.fixture(scope="module")
def crawl() -> dict[str, list[Pair]]:
    """Return shards in which texts, images and n-grams are shared within and across shards."""
    chance = random.Random(7)
    lengths = [0, 2, 3, 3, 4, 4, 8, 22]
    texts = [" ".join(chance.choices(WORDS, k=chance.choice(lengths))) for _ in range(90)]
    images = [picture(198 + n, 300 + n % 5) for n in range(25)] + [b"broken", None]
    return {
        f"{shard:05d}": [
            (
                f"{shard:05d}{row:04d}",
                chance.choice(images),
                chance.choice(texts),
            )
            for row in range(60)
        ]
        for shard in range(SHARDS)
    }


@pytest.fixture(scope="module")
def source(crawl: dict[str, list[Pair]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    write(crawl, folder)
    return folder


@pytest.fixture(scope="module")
def once(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a run with four partitions, and a task per shard."""
    return run(source, tmp_path_factory.mktemp("once"))


def write(shards: dict[str, list[Pair]], folder: Path) -> None:
    for name, pairs in shards.items():
        write_shard(folder / name, pairs)


def recipe() -> Recipe:
    changes = ["tables.max_ngrams=100", "rules.ngram_rank.max_inclusive=90", "materialise=true"]
    return read_recipe("align", changes)


def run(
    source: Path,
    output: Path,
    *options: str,
    carrier: str = "files",
    workers: int = 1,
    layout: tuple[int, int] = (4, 1),
    by: Recipe | None = None,
) -> Path:
    """Run with so many partitions, and of a bundle so many rows for each but the first."""
    plan = plan_filter(str(source), output, by or recipe(), workers=workers, carrier=carrier)
    again = replace(plan.run, partitions=layout[0])
    run_filter(replace(plan, run=again, piece_rows=layout[1]), options)
    return output


def contents_of(output: Path) -> dict[str, Any]:
    """Return what must be equal also where the files are cut otherwise."""
    lookups = {p.name: p.read_bytes() for p in (output / "tables" / "lookup").iterdir()}
    offsets = [row["image_offset"] for row in rows_of(output, "columns")]
    decisions = rows_of(output, "decisions")
    return found_by(output) | {"lookups": lookups, "offsets": offsets, "decisions": decisions}


def test_the_crawl_shares_and_drops_and_keeps(once: Path) -> None:
    found = found_by(once)

    assert found["tables"]["texts"]["shared"] > 10
    assert found["tables"]["images"]["shared"] > 10
    assert found["tables"]["ngrams"]["distinct"] > found["tables"]["ngrams"]["listed"] == 100
    assert found["funnel"]["kept"] > 10
    assert len(found["funnel"]) > 8
    assert len(list((once / "tables" / "ngrams").iterdir())) == 4


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({}, id="again"),
        pytest.param({"workers": 2}, id="two processes"),
        pytest.param({"layout": (4, 50)}, id="bundles of two shards and three"),
        pytest.param({"layout": (4, 50), "workers": 2}, id="bundles in two processes"),
        pytest.param({"layout": (4, 50), "carrier": "native"}, id="bundles, and Beam's shuffle"),
        pytest.param({"layout": (4, 99)}, id="one bundle"),
    ],
)
def test_another_run_leaves_the_same_bytes(
    how: dict[str, Any], source: Path, once: Path, tmp_path: Path
) -> None:
    again = run(source, tmp_path / "out", **how)

    assert files_of(again) == files_of(once)


@pytest.mark.parametrize("carrier", ["files", "native"])
def test_replayed_bundles_leave_the_same_bytes(
    carrier: str, source: Path, once: Path, tmp_path: Path
) -> None:
    again = run(source, tmp_path / "out", REPEAT, carrier=carrier)

    assert files_of(again) == files_of(once)


@pytest.mark.parametrize("partitions", [1, 8])
def test_other_partitions_leave_the_same_contents(
    partitions: int, source: Path, once: Path, tmp_path: Path
) -> None:
    again = run(source, tmp_path / "out", layout=(partitions, 1))

    assert contents_of(again) == contents_of(once)
    assert (again / "subset.npy").read_bytes() == (once / "subset.npy").read_bytes()
    for folder in ("columns", "decisions", "shards"):
        assert files_of(again / folder) == files_of(once / folder)


def test_smaller_batches_leave_the_same_contents(
    source: Path, once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BATCH_ROWS", 7)

    again = run(source, tmp_path / "out")

    groups = [pq.ParquetFile(path).num_row_groups for path in (again / "columns").iterdir()]
    assert groups == [9] * SHARDS  # of 60 rows
    assert contents_of(again) == contents_of(once)


def test_the_order_of_shards_and_rows_changes_no_row_but_its_place(
    crawl: dict[str, list[Pair]], once: Path, tmp_path: Path
) -> None:
    chance = random.Random(8)
    names = list(crawl)
    shuffled = {
        new: chance.sample(crawl[old], len(crawl[old]))
        for new, old in zip(names, reversed(names), strict=True)
    }
    write(shuffled, tmp_path / "in")

    again = run(tmp_path / "in", tmp_path / "out")

    for folder in ("columns", "decisions"):
        assert by_key(again, folder) == by_key(once, folder)
    for table in ("ngrams", "texts", "images"):
        assert table_rows(again, table) == table_rows(once, table)
    assert (again / "subset.npy").read_bytes() == (once / "subset.npy").read_bytes()


def by_key(output: Path, folder: str) -> dict[str, dict[str, Any]]:
    place = ("shard", "image_offset")
    rows_here = rows_of(output, folder)
    return {r["key"]: {k: v for k, v in r.items() if k not in place} for r in rows_here}


@settings(max_examples=2, suppress_health_check=list(HealthCheck), phases=UNSHRUNK)
@given(
    st.sampled_from([crawls.metadata, crawls.parquets_with_images, crawls.webdatasets]).flatmap(
        lambda kind: kind()
    ),
    crawls.recipes(),
)
def test_any_crawl_leaves_the_same_contents(crawl: crawls.Crawl, drawn: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        crawl(Path(name, "in"))
        by = from_dict(drawn, "the test")
        ordinary = run(Path(name, "in"), Path(name, "a"), layout=(1, 1), by=by)
        patch.setattr(rows, "BATCH_ROWS", 3)

        how: dict[str, Any] = {"carrier": "native", "layout": (2, 5)}
        other = run(Path(name, "in"), Path(name, "b"), REPEAT, by=by, **how)

        assert contents_of(other) == contents_of(ordinary)
