"""The filter job finds what the slow, plain version in tests/plain.py finds, value for value."""

import hashlib
import tempfile
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.commands import main
from tests import crawls
from tests.outputs import expected_of, found_by, rows_of, subset_of
from tests.plain import filter_plainly
from tests.shards import SHARED_DATA, picture, write_parquet, write_shard

KINDS = {
    "metadata": crawls.metadata(),
    "parquet with images": crawls.parquets_with_images(),
    "webdataset": crawls.webdatasets(),
}

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
"""An example takes a second, and finding a smaller one that fails takes hundreds of them."""


def run_filter(source: Path, output: Path, *options: str) -> None:
    command = ["filter", "--input", str(source), "--output", str(output), "--workers", "1"]
    assert main([*command, *options]) == 0


def preset(name: str) -> dict[str, Any]:
    return tomllib.loads((files("pipelines") / "recipes" / f"{name}.toml").read_text())


def check(crawl: crawls.Crawl, recipe: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), Path(name) / "in"
        crawl(source)
        (folder / "drawn.toml").write_text(tomli_w.dumps(recipe))

        run_filter(source, folder / "out", "--recipe", str(folder / "drawn.toml"))

        expected = expected_of(filter_plainly(source, recipe), recipe["tables"]["max_ngrams"])
        assert found_by(folder / "out") == expected


def link(files_of: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for path in files_of:
        (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3, suppress_health_check=list(HealthCheck), phases=UNSHRUNK)
@given(data=st.data())
def test_any_crawl_is_filtered_as_plainly(kind: str, data: st.DataObject) -> None:
    check(data.draw(KINDS[kind]), data.draw(crawls.recipes()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_of_many_crawls_is_filtered_as_plainly(kind: str, data: st.DataObject) -> None:
    check(data.draw(KINDS[kind]), data.draw(crawls.recipes()))


def test_the_sample_is_filtered_by_align_as_plainly(sample: Path, filtered: Path) -> None:
    assert found_by(filtered) == expected_of(filter_plainly(sample, preset("align")))


def test_the_sample_is_filtered_by_datacomp_basic_as_plainly(sample: Path, tmp_path: Path) -> None:
    run_filter(sample, tmp_path / "out", "--recipe", "datacomp-basic")

    plain = filter_plainly(sample, preset("datacomp-basic"))
    assert found_by(tmp_path / "out") == expected_of(plain)


def test_a_short_allowlist_ranks_and_drops_as_plainly(sample: Path, tmp_path: Path) -> None:
    changes = ["tables.max_ngrams=50", "rules.ngram_rank.max_inclusive=40"]

    run_filter(sample, tmp_path / "out", *(part for c in changes for part in ("--set", c)))

    recipe = preset("align") | {"tables": {"max_ngrams": 50}}
    recipe["rules"]["ngram_rank"] = {"max_inclusive": 40}
    expected = expected_of(filter_plainly(sample, recipe), 50)
    assert expected["funnel"]["ngram_rank.too_rare"] > 100
    assert found_by(tmp_path / "out") == expected


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="shared/data is absent")
def test_real_pages_are_filtered_as_plainly(tmp_path: Path) -> None:
    shards = sorted((SHARED_DATA / "realalt").glob("0000[14].*"))
    source = link([path for path in shards if path.suffix in (".tar", ".parquet")], tmp_path / "in")

    run_filter(source, tmp_path / "out")

    expected = expected_of(filter_plainly(source, preset("align")))
    assert expected["funnel"]["rows_in"] > 1000
    assert found_by(tmp_path / "out") == expected


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="shared/data is absent")
def test_scraped_metadata_is_filtered_as_plainly(tmp_path: Path) -> None:
    source = link([SHARED_DATA / "text" / "laion400m_sample.parquet"], tmp_path / "in")

    run_filter(source, tmp_path / "out")

    expected = expected_of(filter_plainly(source, preset("align")))
    assert expected["funnel"]["rows_in"] > 4000
    assert found_by(tmp_path / "out") == expected


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="shared/data is absent")
@pytest.mark.parametrize("recipe", ["align", "datacomp-basic"])
@pytest.mark.parametrize("folder", ["realalt", "text"])
def test_all_real_data_are_filtered_as_plainly(folder: str, recipe: str, tmp_path: Path) -> None:
    run_filter(SHARED_DATA / folder, tmp_path, "--recipe", recipe)

    plain = filter_plainly(SHARED_DATA / folder, preset(recipe))
    assert found_by(tmp_path) == expected_of(plain)


def test_a_decision_shows_the_value_and_the_threshold_that_decided(tmp_path: Path) -> None:
    captions = ["a photo of a red shoe", "two words", "a photo of a red shoe", None]
    images = [picture(201, 402), picture(300, 300), picture(200, 200), picture(300, 300)]
    write_shard(tmp_path / "in" / "0", zip("abcd", images, captions, strict=True))

    run_filter(tmp_path / "in", tmp_path / "out")

    shown = ("key", "reason", "value", "threshold", "broken")
    decisions = rows_of(tmp_path / "out", "decisions")
    assert [tuple(row[name] for name in shown) for row in decisions] == [
        ("a", None, None, None, 0),
        ("b", "token_count.too_short", "2", "token_count >= 3", 1 << 5),
        ("c", "shorter_side.too_small", "200", "shorter_side_px > 200", 1 << 1),
        ("d", "intact.caption_missing", "caption_missing", "error is null", 1 << 0),
    ]


def test_a_uid_that_is_kept_twice_is_in_the_subset_once(tmp_path: Path) -> None:
    columns = {"url": ["u", "v", "u"], "caption": ["unused"] * 3, "mine": ["a red shoe"] * 3}
    write_parquet(tmp_path / "in" / "0.parquet", columns)

    run_filter(tmp_path / "in", tmp_path / "out", "--set", "columns.caption=mine")

    uids = [hashlib.sha256(f"{url}\0a red shoe".encode()).hexdigest()[:32] for url in "uvu"]
    kept = [row["uid"] for row in rows_of(tmp_path / "out", "decisions") if not row["reason"]]
    assert kept == uids
    assert subset_of(tmp_path / "out") == sorted(set(uids))
