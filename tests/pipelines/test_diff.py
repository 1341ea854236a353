"""Two runs side by side: the numbers of both manifests, and what became of each pair."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.commands import main
from pipelines.diff import compare_runs, described, differs
from tests.outputs import manifest_of, rows_of
from tests.shards import picture, write_shard

HOSTILE = "</script><script>document.title='owned'</script> a \u202e\x00 b"


@pytest.fixture(scope="module")
def other(filtered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what another recipe decides of the sample."""
    output = tmp_path_factory.mktemp("other") / "out"
    options = ("--recipe", "datacomp-basic", "--output", str(output), "--workers", "1")
    assert main(["decide", "--from", str(filtered), *options]) == 0
    return output


@pytest.fixture(scope="module")
def told(filtered: Path, other: Path) -> dict[str, Any]:
    return compare_runs(filtered, other)


def filter_pairs(folder: Path, name: str, captions: dict[str, str], *options: str) -> Path:
    pairs = [(key, picture(201, 220), text) for key, text in captions.items()]
    write_shard(folder / f"{name}-in" / name, pairs)
    output = folder / name
    arguments = ["--input", folder / f"{name}-in", "--output", output, "--workers", "1", *options]
    assert main(["filter", *map(str, arguments)]) == 0
    return output


def test_the_account_is_that_of_both_manifests(
    told: dict[str, Any], filtered: Path, other: Path
) -> None:
    for side, output in (("a", filtered), ("b", other)):
        manifest = manifest_of(output)
        account = {row["what"]: row[side] for row in told["funnel"] if row[side]}
        assert account == {
            "rows in": manifest["rows_in"],
            **manifest["dropped"],
            "kept": manifest["kept"],
        }


def test_the_pairs_are_those_of_both_decisions(
    told: dict[str, Any], filtered: Path, other: Path
) -> None:
    both = [rows_of(output, "decisions") for output in (filtered, other)]
    verdicts = [(a["reason"], b["reason"]) for a, b in zip(*both, strict=True)]

    pairs = told["pairs"]

    assert pairs["same"] == sum(a == b for a, b in verdicts)
    assert pairs["gone"] == sum(a is None and b is not None for a, b in verdicts)
    assert pairs["back"] == sum(a is not None and b is None for a, b in verdicts)
    assert pairs["moved"] == sum(a != b and None not in (a, b) for a, b in verdicts)
    assert (pairs["only_a"], pairs["only_b"]) == (0, 0)
    assert pairs["aligned"] == pairs["both"] == len(verdicts)
    for change in told["changes"]:
        wanted = tuple(None if change[side] == "kept" else change[side] for side in "ab")
        assert change["pairs"] == verdicts.count(wanted)
        for pair in change["examples"]:
            assert tuple(pair[side]["reason"] for side in "ab") == wanted
            assert (pair["a"]["value"] is None) == (wanted[0] is None)


def test_all_rows_of_the_same_input_do_not_drift(told: dict[str, Any]) -> None:
    assert {one["psi"] for one in told["drift"] if one["of"] == "all"} == {0.0}
    assert any(one["psi"] for one in told["drift"] if one["of"] == "kept")


def test_the_recipes_differ_by_their_settings(told: dict[str, Any]) -> None:
    changed = {row["what"]: (row["a"], row["b"]) for row in told["recipe"]}

    assert changed["name"] == ("align", "datacomp-basic")
    assert changed["rules.shorter_side.min_exclusive"] == ("200", "none")
    assert changed["rules.token_count.max_inclusive"] == ("20", "none")


def test_runs_over_other_inputs_are_joined_by_uid(tmp_path: Path) -> None:
    same = {
        "1": "a red shoe on the wooden floor of the house",
        "2": "a blue hat on the table in the kitchen of the house",
    }
    a = filter_pairs(tmp_path, "a", same | {"3": "a photo of a green coat"})
    b = filter_pairs(tmp_path, "b", {"0": "a photo of snow", **same})
    c = filter_pairs(tmp_path, "c", same, "--set", "rules.token_count.min_inclusive=15")

    ours, theirs = compare_runs(a, b), compare_runs(a, c)

    assert {name: n for name, n in ours["pairs"].items() if n} == {
        "both": 2,
        "same": 2,
        "only_a": 1,
        "only_b": 1,
    }
    assert theirs["pairs"]["gone"] == 2
    assert theirs["pairs"]["aligned"] == 0
    only = next(change for change in ours["changes"] if change["fate"] == "only_b")
    assert only["examples"][0]["caption"] == "a photo of snow"
    assert only["examples"][0]["a"] is None
    assert only["examples"][0]["picture"].startswith("data:image/jpeg;base64,")


def test_the_exit_code_is_that_of_diff(
    filtered: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(filtered), str(filtered), "--workers", "1"]) == 0
    assert "no column drifts by more than chance" in capsys.readouterr().out
    assert main(["diff", str(filtered), str(other), "--workers", "1"]) == 1
    assert "dropped in A, kept in B" in capsys.readouterr().out
    assert main(["diff", str(filtered), str(tmp_path)]) == 2
    assert "must hold a complete run" in capsys.readouterr().err
    broken = shutil.copytree(other, tmp_path / "broken")
    (broken / "statistics.json").unlink()
    assert main(["diff", str(filtered), str(broken)]) == 2
    assert "must hold a run's statistics" in capsys.readouterr().err


def test_hostile_captions_do_not_reach_the_terminal(tmp_path: Path) -> None:
    a = filter_pairs(tmp_path, "a", {"1": "\x1b[31m\u202e evil " + "x" * 10**6})
    b = filter_pairs(tmp_path, "b", {"2": "a photo of snow"})

    told = compare_runs(a, b)

    assert differs(told)
    text = described(told)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text) < 5000
    assert len(json.dumps(told)) < 10**6
