"""Captioning a run's shards: what is asked, what is scored, what a killed run leaves."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from filters.rule import RecipeError
from pipelines.commands import main
from recaption import parts
from recaption.captions import SCHEMA, captions_path, read_provenance
from recaption.choice import choose_all
from recaption.choosing import Choose
from recaption.filter_run import FilterRun
from recaption.shards import digest_of, generate_shard, score_shard
from tests.captioners import Echo, Lengths
from tests.shards import picture, write_parquet, write_shard

CAPTIONS = {
    "kept": "a photo of a shoe",
    "short": "short",
    "blank": "",
    "small": "a photo of a small shoe",
    "other": "a photo of a dog",
    "lost": "a photo of a cat",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Filter a crawl of two shards; return the output."""
    images = {key: picture(200 + n, 220) for n, key in enumerate(CAPTIONS, start=1)}
    images |= {"small": picture(90, 90)}
    del images["lost"]
    for shard in ("a", "b"):
        pairs = [(f"{shard}-{key}", images.get(key), text) for key, text in CAPTIONS.items()]
        write_shard(tmp_path / "in" / shard, pairs)
    return filtered(tmp_path)


def filtered(folder: Path, *changes: str) -> Path:
    values = ("images.for_recaption=true", *changes)
    options = [part for value in values for part in ("--set", value)]
    paths = ["--input", str(folder / "in"), "--output", str(folder / "out"), "--workers", "1"]
    assert main(["filter", *paths, *options]) == 0
    return folder / "out"


def read(output: Path, shard: str = "a") -> dict[str, dict[str, Any]]:
    table = pq.read_table(captions_path(output, shard))
    assert table.schema.equals(SCHEMA)
    return {row["key"].partition("-")[2]: row for row in table.to_pylist()}


def generate(output: Path, captioner: Echo, **options: bool) -> list[int]:
    run = FilterRun(output)
    return [generate_shard(run, shard, captioner, **options) for shard in run.shards]


def score(output: Path, scorer: Lengths) -> list[int]:
    run = FilterRun(output)
    return [score_shard(run, shard, scorer) for shard in run.shards]


def test_captions_are_asked_for_images_that_are_whole_and_may_stay(run: Path) -> None:
    captioner = Echo()

    assert generate(run, captioner) == [4, 4]

    rows = read(run)
    assert [key for key, row in rows.items() if row["asked"]] == ["kept", "short", "blank", "other"]
    assert [key for key, row in rows.items() if row["candidates"]] == [
        *("kept", "short", "blank", "other")
    ]
    image = hashlib.sha256(picture(201, 220)).hexdigest()[:6]
    assert rows["kept"]["candidates"] == [
        {"text": f"echo {image} {draw}", "draw": draw, "logprob": -1.5 * draw, "tokens": 4}
        | {"finish": "stop", "failure": None, "captioner": digest_of(captioner.spec)}
        | {"itc": None, "itm": None}
        for draw in range(2)
    ]
    assert not (run / "captions" / "_parts" / "generate" / "a").exists()


def test_pairs_that_the_run_kept_need_not_be_asked(run: Path) -> None:
    assert generate(run, Echo(), of_kept=False) == [2, 2]
    assert [key for key, row in read(run).items() if row["asked"]] == ["short", "blank"]


def test_what_is_there_is_not_asked_again(run: Path) -> None:
    generate(run, Echo())
    again = Echo()

    assert generate(run, again) == [0, 0]
    assert again.asked == []


def test_what_failed_is_asked_again_on_request_by_whatever_captioner(run: Path) -> None:
    generate(run, Echo(failing=["a-short", "b-kept"]))
    score(run, Lengths())
    other, scorer = Echo(name="other"), Lengths()

    assert generate(run, other, retry_failed=True) == [1, 1]
    score(run, scorer)

    assert other.asked == ["a-short", "b-kept"]
    assert read(run)["short"]["candidates"][0]["text"].startswith("other ")
    assert read(run)["short"]["candidates"][0]["itm"] > 0
    assert [len(texts) for texts in scorer.seen] == [3, 3]


def test_another_captioner_is_refused_unless_it_may_replace_the_first(run: Path) -> None:
    generate(run, Echo())

    with pytest.raises(RecipeError, match="must hold captions of one captioner"):
        generate(run, Echo(name="other"))
    assert generate(run, Echo(name="other"), overwrite=True) == [4, 4]
    assert read(run)["kept"]["candidates"][0]["text"].startswith("other ")


def test_a_captioner_that_dies_loses_no_more_than_a_group(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(run, Echo())
    whole = [read(run, shard) for shard in ("a", "b")]
    monkeypatch.setattr(parts, "GROUP", 1)
    dying, going_on = Echo(), Echo()
    dying.dies_at = 6

    for path in (run / "captions").glob("*.parquet"):
        path.unlink()
    with pytest.raises(KeyboardInterrupt):
        generate(run, dying)
    generate(run, going_on)

    assert dying.asked + going_on.asked == [
        f"{shard}-{key}" for shard in "ab" for key in ("kept", "short", "blank", "other")
    ]
    assert [read(run, shard) for shard in ("a", "b")] == whole


def test_raw_captions_and_candidates_that_work_are_scored_once(run: Path) -> None:
    generate(run, Echo(failing=["a-other"]))
    scorer = Lengths()

    assert score(run, scorer) == [4, 4]
    assert score(run, scorer) == [0, 0]

    rows = read(run)
    assert [len(texts) for texts in scorer.seen] == [3, 3, 2, 1, 3, 3, 2, 3]
    assert rows["kept"]["raw_itm"] == pytest.approx(len(CAPTIONS["kept"]) / 200)
    assert rows["blank"]["raw_itm"] is None
    assert rows["other"]["candidates"][0]["itm"] is None
    assert rows["kept"]["candidates"][1]["itc"] == pytest.approx(13 / 100)
    assert rows["small"]["raw_itm"] is None


def test_another_scorer_scores_all_anew(run: Path) -> None:
    generate(run, Echo())
    score(run, Lengths())

    assert score(run, Lengths("other")) == [4, 4]


def test_scores_come_after_captions(run: Path) -> None:
    with pytest.raises(RecipeError, match="run generate over all shards first"):
        score(run, Lengths())


def test_images_in_parquet_are_read_as_well(tmp_path: Path) -> None:
    images = [picture(201 + n, 220) for n in range(3)]
    columns = {"caption": ["a photo of a shoe", "", "a photo of a hat"], "jpg": images}
    write_parquet(tmp_path / "in" / "a.parquet", columns)
    output = filtered(tmp_path)

    assert generate(output, Echo(1)) == [3]
    rows = pq.read_table(captions_path(output, "a")).to_pylist()
    assert [row["candidates"][0]["text"] for row in rows] == [
        f"echo {hashlib.sha256(image).hexdigest()[:6]} 0" for image in images
    ]


def test_a_run_without_images_or_no_run_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"must hold a complete run, got no manifest\.json"):
        FilterRun(tmp_path)
    write_parquet(tmp_path / "in" / "a.parquet", {"caption": ["a"], "url": ["u"]})
    with pytest.raises(RecipeError, match="got one over metadata alone"):
        FilterRun(filtered(tmp_path))


def test_an_input_that_is_gone_is_named(run: Path) -> None:
    (run.parent / "in" / "a.tar").unlink()

    with pytest.raises(RecipeError, match=r"must still hold .* got no .*a\.tar; bring it back"):
        generate(run, Echo())


def choose(output: Path, **values: Any) -> dict[str, Any]:
    return choose_all(FilterRun(output), Choose(**values))


def test_choices_are_made_for_the_whole_corpus_and_counted(run: Path) -> None:
    generate(run, Echo(failing=["a-other"]))
    score(run, Lengths())

    told = choose(run, min_itm_inclusive=0.06)

    rows = read(run)
    image = hashlib.sha256(picture(201, 220)).hexdigest()[:6]
    assert {key: (row["chosen"], row["origin"]) for key, row in rows.items()} == {
        "kept": ("a photo of a shoe", "raw"),
        "short": (f"echo {hashlib.sha256(picture(202, 220)).hexdigest()[:6]} 0", "synthetic"),
        "blank": (f"echo {hashlib.sha256(picture(203, 220)).hexdigest()[:6]} 0", "synthetic"),
        "small": (None, None),
        "other": ("a photo of a dog", "raw"),
        "lost": (None, None),
    }
    assert (rows["kept"]["keeps_synthetic"], rows["kept"]["candidates"][0]["text"][5:11]) == (
        True,
        image,
    )
    assert told["kept_before"] == 4
    assert (told["kept"], told["rescued"], told["failures"]) == (8, 4, {"timeout": 2})
    stored = json.loads((run / "captions" / "statistics.json").read_text())
    assert stored == told
    provenance = read_provenance(run)
    assert provenance["choice"]["rule"] == "capfilt"


def test_a_choice_goes_by_what_the_run_decides_now(run: Path) -> None:
    generate(run, Echo())
    score(run, Lengths())
    changes = ("images.for_recaption=true", "rules.shorter_side.min_exclusive=202")
    stricter = [part for change in changes for part in ("--set", change)]
    assert main(["decide", "--from", str(run), "--workers", "1", *stricter]) == 0

    choose(run, min_itm_inclusive=0.0)

    rows = read(run)
    assert [key for key, row in rows.items() if row["chosen"]] == ["blank", "other"]
    assert rows["kept"]["candidates"]


def test_a_choice_needs_captions_and_a_threshold(run: Path) -> None:
    with pytest.raises(RecipeError, match="run generate and score over all shards first"):
        choose(run)
    generate(run, Echo())
    with pytest.raises(RecipeError, match=r"choose\.min_itm_inclusive must be set for capfilt"):
        choose(run)
    assert choose(run, rule="raw")["kept"] == 4
