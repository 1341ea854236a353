"""Tasks: read before any is asked, each written as clip_benchmark writes it, all on one page."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from filters.rule import RecipeError
from tests.train.evaluation.colours import ColourEncoder, picture, write_folders
from tests.train.evaluation.test_cxc import write_cxc
from tests.train.evaluation.test_retrieval import write_karpathy
from train.evaluation import tasks
from train.evaluation.page import write_page
from train.evaluation.published import ROWS
from train.evaluation.results import Result
from train.evaluation.tasks import KINDS, Task, evaluate, parse_task


def test_a_task_is_read(tmp_path: Path) -> None:
    assert parse_task(f"zero-shot:{tmp_path},templates=seven") == Task(
        kind="zero-shot", path=tmp_path, options={"templates": "seven"}
    )
    assert parse_task(f"retrieval:{tmp_path}@{tmp_path}").images == tmp_path
    assert parse_task(f"fine-tune:{tmp_path},steps=5,rate=1e-3").options == {
        "steps": 5,
        "rate": 0.001,
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "--on must be like zero-shot:DIR"),
        ("zeroshot:.", "--on must be like zero-shot:DIR"),
        ("zero-shot:", "--on must be like zero-shot:DIR"),
        ("zero-shot:no/where", "must lie on this machine, got no no/where; correct the path"),
        ("retrieval:.@no/where", "must lie on this machine, got no no/where"),
        ("cxc:.", "must come with COCO's images, got none"),
        ("knn:.,k=3", "options of knn must be among none, got 'k=3'"),
        ("zero-shot:.,template=seven", "options of zero-shot must be among templates"),
        ("fine-tune:.,steps=few", "steps of fine-tune must be a number, got 'few'"),
    ],
)
def test_what_is_no_task_is_told_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(sentence)):
        parse_task(text)


def test_every_kind_of_task_leaves_its_file_and_its_section(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs the extra train")
    data, out = tmp_path / "colours", tmp_path / "out"
    write_folders(data / "train", each=4)
    write_folders(data / "test", each=2, noise=3)
    (tmp_path / "k").mkdir()
    karpathy, images = write_karpathy(tmp_path / "k", 8)
    (tmp_path / "c").mkdir()
    cxc, coco = write_cxc(tmp_path / "c")
    asked = [
        f"zero-shot:{data / 'test'}",
        f"retrieval:{karpathy}@{images}",
        f"cxc:{cxc}@{coco}",
        f"probe:{data}",
        f"knn:{data}",
        f"measures:{data / 'test'}",
    ]

    results = evaluate(ColourEncoder(), asked, out)

    page = (out / "index.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in out.glob("*.json")) == [
        "colours-test_representation.json",
        "colours-test_zeroshot_classification.json",
        "colours_knn.json",
        "colours_linear_probe.json",
        "cxc_cxc_retrieval.json",
        "cxc_cxc_similarity.json",
        "small_zeroshot_retrieval.json",
    ]
    for result in results:
        assert f'<section id="{result.task}"' in page
    assert "ALIGN, fine-tuned" in page
    assert "<script" not in page
    stored = read(out / "colours-test_zeroshot_classification.json")
    assert list(stored)[:6] == ["dataset", "model", "pretrained", "task", "metrics", "language"]
    assert stored["metrics"] == {"acc1": 1, "acc5": 1, "mean_per_class_recall": 1}


def test_a_wrong_task_stops_before_the_first_is_asked(tmp_path: Path) -> None:
    data = write_folders(tmp_path / "colours")

    with pytest.raises(RecipeError, match="nowhere"):
        evaluate(ColourEncoder(), [f"zero-shot:{data}", "knn:nowhere"], tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_what_is_undefined_is_null(tmp_path: Path) -> None:
    data = write_folders(tmp_path / "two", ["red", "blue"])

    task = f"zero-shot:{data},templates=simple,language=de"
    evaluate(ColourEncoder(), [task], tmp_path / "out")

    stored = read(tmp_path / "out/two_zeroshot_classification.json")
    assert stored["metrics"]["acc5"] is None
    assert stored["counts"]["templates"] == 1
    assert stored["language"] == "de"


def test_bad_images_are_told_on_the_page(tmp_path: Path) -> None:
    data = write_folders(tmp_path / "<b>two", ["red", "blue"])
    (data / "red" / "bad.jpg").write_bytes(picture("red")[:-30])

    evaluate(ColourEncoder(), [f"zero-shot:{data}"], tmp_path / "out")

    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "1 undecodable" in page
    assert "<b>two" not in page
    assert "&lt;b&gt;two" in page


def test_published_rows_are_shares_and_have_columns_on_the_page(tmp_path: Path) -> None:
    results = [
        Result(dataset="d", task=task, metrics={name: 0.5 for row in rows for name in row.metrics})
        for task, rows in ROWS.items()
    ]

    page = write_page(results, ColourEncoder(), tmp_path).read_text(encoding="utf-8")

    for rows in ROWS.values():
        for row in rows:
            for value in row.metrics.values():
                assert 0 < value <= 1
                assert f">{100 * value:.1f}<" in page


def test_folds_and_deviations_stand_on_the_page(tmp_path: Path) -> None:
    results = [
        Result(
            dataset="coco",
            task="zeroshot_retrieval",
            metrics={"text_retrieval_recall@1": 0.314, "text_retrieval_recall@1_1k": 0.512},
        ),
        Result(
            dataset="cxc",
            task="cxc_similarity",
            metrics={"sts_spearman": 0.7, "sts_spearman_sd": 0.0123},
        ),
    ]

    page = write_page(results, ColourEncoder(), tmp_path).read_text(encoding="utf-8")

    assert "mean of folds of 1000 images" in page
    assert ">51.2<" in page
    assert "± 1.2" in page


def test_a_task_may_be_tuned_where_it_is_asked(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra train")
    data = tmp_path / "data"
    write_folders(data / "train", ["red", "blue"], each=2)
    write_folders(data / "test", ["red", "blue"], each=1)

    with pytest.raises(RecipeError, match="steps of fine-tuning must be above 0, got 0"):
        evaluate(ColourEncoder(), [f"fine-tune:{data},steps=0"], tmp_path / "out")


def test_all_kinds_can_be_asked() -> None:
    assert list(tasks._ASK) == list(KINDS)  # noqa: SLF001


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
