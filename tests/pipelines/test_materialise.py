"""Shards made of what was chosen: their texts, and what they were chosen from."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.commands import main
from recaption.captions import add_provenance
from recaption.choice import choose_all
from recaption.choosing import Choose
from recaption.filter_run import FilterRun
from recaption.shards import digest_of, generate_shard, score_shard
from tests.captioners import Echo, Lengths
from tests.outputs import files_of
from tests.shards import picture, write_shard


def command(job: str, *options: object) -> int:
    return main([job, *map(str, options), *["--workers", "1"] * (job not in ("explain", "report"))])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    pairs = [("a", picture(201, 220), "a photo of a shoe"), ("b", picture(202, 220), "short")]
    write_shard(tmp_path / "in" / "0", [*pairs, ("c", picture(90, 90), "a photo of a hat")])
    options = ("--set", "images.for_recaption=true")
    assert (
        command("filter", "--input", tmp_path / "in", "--output", tmp_path / "out", *options) == 0
    )
    return tmp_path / "out"


def caption(output: Path, **values: Any) -> Echo:
    run, captioner = FilterRun(output), Echo(2)
    for shard in run.shards:
        generate_shard(run, shard, captioner)
        score_shard(run, shard, Lengths())
    choose_all(run, Choose(**values))
    return captioner


def samples(output: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    with tarfile.open(output / "shards" / "0.tar") as tar:
        for member in tar:
            key, _, kind = member.name.partition(".")
            found.setdefault(key, {})[kind] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return found


def test_shards_have_the_captions_chosen_and_say_what_from(output: Path) -> None:
    captioner = caption(output, min_itm_inclusive=0.0)

    assert command("materialise", "--from", output) == 0

    found = samples(output)
    told = {key: json.loads(sample["json"]) for key, sample in found.items()}
    assert sorted(found) == ["a", "b"]
    assert found["a"]["txt"] == b"a photo of a shoe"
    assert found["b"]["txt"].startswith(b"echo ")
    assert found["b"]["png"] == picture(202, 220)
    assert {key: one["caption_source"] for key, one in told.items()} == {
        "a": "raw",
        "b": "synthetic",
    }
    assert told["b"]["org_caption"] == "short"
    assert told["b"]["re_caption"] == told["b"]["caption"] == found["b"]["txt"].decode()
    assert told["a"]["re_caption"].startswith("echo ")
    assert told["a"]["org_itm"] == pytest.approx(17 / 200)
    assert told["a"]["re_itc"] == pytest.approx(13 / 100)
    assert told["b"]["captioner"] == digest_of(captioner.spec)
    assert json.loads((output / "shards" / "sizes.json").read_text()) == {"0.tar": 2}
    stored = pq.read_table(output / "shards" / "0.parquet").to_pylist()
    assert [row["caption_source"] for row in stored] == ["raw", "synthetic"]


def test_raw_captions_can_be_had_back(output: Path) -> None:
    caption(output, min_itm_inclusive=0.0)
    choose_all(FilterRun(output), Choose(rule="raw"))

    assert command("materialise", "--from", output) == 0

    assert {key: sample["txt"] for key, sample in samples(output).items()} == {
        "a": b"a photo of a shoe"
    }


def test_captions_chosen_by_other_decisions_are_refused(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    caption(output, min_itm_inclusive=0.0)
    options = ("--set", "images.for_recaption=true", "--set", "rules.token_count.max_inclusive=19")
    assert command("decide", "--from", output, *options) == 0
    capsys.readouterr()

    assert command("materialise", "--from", output) == 2

    assert "must be chosen by what is decided now" in capsys.readouterr().err
    choose_all(FilterRun(output), Choose(min_itm_inclusive=0.0))
    assert command("materialise", "--from", output) == 0


def test_without_captions_shards_are_those_of_a_filter_run(output: Path, tmp_path: Path) -> None:
    asked = ("--set", "materialise=true", "--set", "images.for_recaption=true")
    command("filter", "--input", tmp_path / "in", "--output", tmp_path / "whole", *asked)

    assert command("materialise", "--from", output) == 0

    ours, theirs = (files_of(folder / "shards") for folder in (output, tmp_path / "whole"))
    for name in ("README.md", "croissant.json"):  # which tell of the recipe
        assert ours.pop(name) != theirs.pop(name)
    assert ours == theirs


def test_captions_go_with_the_run_that_they_were_of(output: Path, tmp_path: Path) -> None:
    caption(output, min_itm_inclusive=0.0)

    assert command("filter", "--input", tmp_path / "in", "--output", output, "--overwrite") == 0

    assert not (output / "captions").exists()


def test_the_story_of_a_pair_has_its_captions(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captioner = caption(output, min_itm_inclusive=0.0)
    rows = pq.read_table(output / "captions" / "0.parquet").to_pylist()
    add_provenance(output, {"captioners": {digest_of(captioner.spec): captioner.spec}})
    capsys.readouterr()

    for row in rows:
        assert command("explain", row["uid"], "--from", output) == 0

    told = capsys.readouterr().out
    assert "captions, chosen by capfilt\n  raw              itc 0.17  itm 0.09   a photo" in told
    assert "  synthetic 1      itc 0.13  itm 0.06   echo " in told
    assert "  chosen           synthetic: echo " in told
    assert "  chosen           raw: a photo of a shoe" in told
    assert "  captioner        echo" in told
    assert "captions\n  none was asked for" in told


def test_the_page_shows_captions_before_and_after(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("report", "--from", output) == 0
    assert not (output / "report" / "captions.html").exists()
    caption(output, min_itm_inclusive=0.0)

    assert command("report", "--from", output) == 0

    page = (output / "report" / "captions.html").read_text()
    assert f"captions: {output}/report/captions.html" in capsys.readouterr().out
    assert page.count('<figure class="card">') == 2
    assert page.count("data:image/jpeg;base64,") == 2
    assert "dropped for its caption, back with a synthetic one" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "Truth" not in page
