"""The page of a run shows its curves and figures, opens without a network, and escapes names."""

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from filters.rule import RecipeError
from recaption.files import write_json, write_text
from train.page import POINTS, write_report

STORY: dict[str, Any] = {
    "settings": {"name": "<b>tiny</b>", "steps": 400},
    "data": {"sources": ["shards & more"], "pairs": 1234, "held_out": 56, "left_out": {"odd": 7}},
}
RESULT = {
    "dataset": "flags",
    "task": "zeroshot_classification",
    "metrics": {"acc1": 0.5, "acc5": None},
    "intervals": {"acc1": [0.25, 0.75]},
}


def lines(steps: int) -> str:
    told = [
        f'{{"step": {step}, "loss": {9 - step / 100}, "temperature": 0.0625, "gradient_norm": 1.5, '
        f'"learning_rate": 0.001, "samples_per_s": 100.0, "bad": {{"image_undecodable": 3}}}}\n'
        for step in range(1, steps + 1)
    ]
    recalls = '"image_retrieval_recall@1": 0.125, "text_retrieval_recall@1": 0.25'
    return "".join(told) + f'{{"step": {steps}, "validation": {{"loss": 4.5, {recalls}}}}}\n'


def page(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def test_the_page_shows_curves_figures_and_what_was_bad(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", STORY)
    write_text(tmp_path / "metrics.jsonl", lines(400))
    write_json(tmp_path / "evaluation" / "flags.json", RESULT)

    text = page(tmp_path)

    assert text.count("<svg") == 6
    for shown in (
        "5.000",
        "0.0625",
        "12.5",
        "25.0",
        "3 samples could not be read",
        "0.250 to 0.750",
    ):
        assert shown in text
    assert "&lt;b&gt;tiny&lt;/b&gt;" in text
    assert "<b>tiny" not in text
    assert not re.findall(r'(?:src|href)="(?!#|data:|\.\./evaluation)[^"]*"', text)
    assert "<script" not in text


def test_a_curve_of_many_steps_has_few_points(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", STORY)
    write_text(tmp_path / "metrics.jsonl", lines(10 * POINTS))

    curve = re.search(r'<path[^>]*stroke="var\(--kept\)"[^>]*d="([^"]*)"', page(tmp_path))
    curve = curve or re.search(r'd="(M[^"]*)"[^>]*stroke="var\(--kept\)"', page(tmp_path))

    assert curve is not None
    assert curve[1].count("L") == POINTS - 1


def test_a_run_of_which_nothing_is_told_yet_has_a_page(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", STORY)

    assert "What was learnt" in page(tmp_path)


def test_a_folder_without_a_run_has_none(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"must hold a run, got no run.json"):
        write_report(tmp_path)
