"""The cost model: volumes counted by hand, Heaps' law, disk, and a real run's bytes."""

from pathlib import Path

import numpy as np
import pytest

from filters.rule import RecipeError
from pipelines.cost import (
    STAGES,
    Constants,
    Cost,
    hours,
    left_on_disk,
    left_out,
    peak_disk,
    read_constants,
)
from pipelines.plan import plan_filter, read_recipe
from pipelines.run import run_filter
from pipelines.usage import REST
from pipelines.volumes import Corpus, Heaps, fit_heaps, measure_volumes
from recaption.files import read_json
from recaption.manifest import read_manifest
from tests.bench import corpus

ROOT = Path(__file__).parents[2]
ROWS = 20_000


def described(**changes: float) -> Corpus:
    told = {"rows": 1000.0, "tokens": 3.0, "shard_rows": 300.0} | changes
    return Corpus(heaps=Heaps(2.0, 0.5), **told)


def test_volumes_are_what_one_counts_by_hand() -> None:
    recipe = read_recipe("align", ("tables.max_ngrams=100", "rules.ngram_rank.max_inclusive=100"))
    corpus = described(image_bytes=5e4, megapixels=0.3, decoded=0.5)

    found = measure_volumes(corpus, recipe, partitions=8)

    # 1,000 captions of 3 unigrams and 2 bigrams; 2 * sqrt(5,000) of them are distinct
    assert found["distinct"] == pytest.approx(141.42, abs=0.01)
    assert found["listed"] == 100
    assert found["table_mb"] == pytest.approx(0.0012)
    # 4 shards of a batch each, with 1,250 n-grams
    assert found["sent_ngrams"] == pytest.approx(4 * 2 * 1250**0.5)
    assert (found["shards"], found["batches"]) == (4, 4)
    # their files have 3 times the bytes that make up for a row, so 2,293 rows are a bundle
    assert (found["bundles"], found["slices"], found["reads"], found["squares"]) == (1, 8, 8, 64)
    assert (found["images"], found["image_mb"]) == (1000, 50)
    assert (found["decoded"], found["decoded_mpx"]) == (500, 150)
    assert (found["hashed"], found["grouped"], found["written"]) == (0, 0, 0)


def test_a_recipe_adds_the_volumes_of_what_it_asks_for() -> None:
    changes = ("rules.duplicate.same=pair", "materialise=true", "images.hashes=fast")
    corpus = described(image_bytes=5e4, megapixels=0.3, kept=0.25)

    found = measure_volumes(corpus, read_recipe("align", changes), partitions=1)

    assert (found["hashed"], found["grouped"]) == (1000, 1000)
    assert (found["written"], found["written_mb"]) == (250, 12.5)


def test_shards_larger_than_a_batch_have_several() -> None:
    found = measure_volumes(described(rows=1e6, shard_rows=5e5), read_recipe("align"), 4)

    assert (found["shards"], found["batches"]) == (2, 8)


def test_small_shards_share_slices_and_reads() -> None:
    small, single = (
        measure_volumes(described(rows=1e6, shard_rows=1e3), read_recipe("align"), 8, None, most)
        for most in (1000, 1)
    )

    # 7,000 rows are a bundle, or a shard is
    assert [small[n] for n in ("shards", "bundles", "slices", "reads")] == [1000, 143, 1144, 1144]
    assert [single[n] for n in ("shards", "bundles", "slices", "reads")] == [1000, 1000, 8000, 8000]


def test_what_was_counted_takes_the_place_of_heaps_law() -> None:
    found = measure_volumes(described(), read_recipe("align"), 1, distinct=77)

    assert (found["distinct"], found["listed"]) == (77, 77)


def test_heaps_law_is_found_again() -> None:
    occurrences = np.array([1e3, 1e5, 1e6])

    found = fit_heaps(occurrences, 3.0 * occurrences**0.8)

    assert found == pytest.approx((3.0, 0.8))


def test_no_more_n_grams_are_distinct_than_there_are() -> None:
    assert Heaps(10.0, 0.9).distinct(100.0) == 100.0


def test_a_stage_costs_its_constants_times_its_volumes() -> None:
    volumes = measure_volumes(described(), read_recipe("align"), partitions=2)
    fitted = {
        "cpu_s": {"listed": 0.5, "squares": 2.0},
        "sent_bytes": {"listed": 10.0},
        "written_bytes": {},
        "peak_bytes": {"one": 100.0, "listed": 4.0},
    }

    found = Constants({}, Heaps(1.0, 1.0), {"SortNgrams": fitted}).predict(volumes)

    listed = volumes["listed"]
    assert found == {
        "SortNgrams": (listed / 2 + 8, listed * 10, 0, pytest.approx(100 + 2 * listed), 2)
    }


def test_stages_that_have_nothing_to_do_are_left_out() -> None:
    plain, copies = (
        set(read_constants().predict(measure_volumes(described(), read_recipe("align", c), 1)))
        for c in ((), ("rules.duplicate.same=pair",))
    )

    assert copies - plain == {"Group", "KeepBest", "JoinKept"}
    assert not {"Materialise"} & copies


def test_disk_is_freed_once_what_was_sent_is_read() -> None:
    costs = {
        "Read": Cost(0, 60, 100, 0, 1),
        "MergeNgrams": Cost(0, 0, 30, 0, 1),
        "SplitNgrams": Cost(0, 20, 20, 0, 1),
        "SortNgrams": Cost(0, 5, 25, 0, 1),
    }

    # 100, 130 and 60 less, 90, 115
    assert peak_disk(costs) == 130
    assert left_on_disk(costs) == 20


def test_workers_wait_where_a_stage_has_fewer_tasks() -> None:
    costs = {"Read": Cost(7200, 0, 0, 0, 100), "WriteLookups": Cost(3600, 0, 0, 0, 1)}

    assert hours(costs, 1) == 3.0
    assert hours(costs, 4) == 1.5


def test_what_is_not_predicted_is_named() -> None:
    assert left_out(read_recipe("align")) == []
    assert left_out(read_recipe("coyo")) == ["rules.duplicate: finding hashes that are near"]
    assert left_out(read_recipe("align", ("nsfw.model=m",))) == ["nsfw.model"]


def test_constants_that_are_none_or_of_another_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("stages = 3\n")
    ours = (ROOT / "pipelines" / "cost.toml").read_text(encoding="utf-8")
    (tmp_path / "old.toml").write_text(ours.replace("rows = ", "lines = "))

    for name in ("wrong.toml", "none.toml", "old.toml"):
        with pytest.raises(RecipeError, match=r"must be a file that .* wrote, got"):
            read_constants(tmp_path / name)


def test_the_bytes_of_a_real_run_are_as_predicted(tmp_path: Path) -> None:
    constants = read_constants()
    corpus.write_captions(tmp_path / "captions", ROWS, ROWS // 4)
    recipe = read_recipe("align")
    plan = plan_filter(str(tmp_path / "captions"), tmp_path / "out", recipe, workers=1)
    run_filter(plan)
    stages = read_json(tmp_path / "out" / "run.json")["stages"]
    occurrences = read_manifest(tmp_path / "out")["tables"]["ngrams"]["occurrences"]
    tokens = (occurrences / ROWS + 1) / 2
    told = Corpus(rows=ROWS, tokens=tokens, heaps=constants.heaps, shard_rows=ROWS // 4)

    said = constants.predict(measure_volumes(told, recipe, plan.run.partitions))

    sent = sum(used.get("sent_bytes", 0.0) for used in stages.values())
    written = sum(used.get("written_bytes", 0.0) for used in stages.values())
    assert set(stages) <= set(STAGES)
    assert {*said} >= {*stages} - {REST}
    assert sum(cost.sent_bytes for cost in said.values()) == pytest.approx(sent, rel=0.2)
    if written:  # Linux alone tells
        assert sum(c.written_bytes for c in said.values()) == pytest.approx(written, rel=0.2)
