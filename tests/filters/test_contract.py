"""What every rule of every preset promises, whatever the rows."""

import pickle
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.embedding_similarity import EmbeddingSimilarity
from filters.file_name import FileName
from filters.intact import ERRORS, Intact
from filters.parsing import parse
from filters.phash_distance import PhashDistance
from filters.rule import Rule

RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"

COUNTS = st.integers(0, 30) | st.integers(0, 2**31 - 1)
SCORES = st.floats(0, 1, width=32)
WORDS = ("A", "a", "dog", "Dog", "犬", "été", "Profile photo", "IMG_1.jpg", "1920x1080", "\u3000")
CAPTIONS = st.text(max_size=9) | st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "caption": (pa.string(), CAPTIONS),
    "error": (pa.string(), st.sampled_from(ERRORS)),
    "char_count": (pa.int32(), COUNTS),
    "word_count": (pa.int32(), COUNTS),
    "token_count": (pa.int32(), COUNTS),
    "language": (pa.string(), st.sampled_from(("en", "de", "zh"))),
    "language_score": (pa.float32(), SCORES),
    "ngram_rank": (pa.int64(), st.integers(1, 100_000_001)),
    "images_per_text": (pa.int64(), COUNTS),
    "texts_per_image": (pa.int64(), COUNTS),
    "shorter_side_px": (pa.int32(), COUNTS),
    "aspect_ratio": (pa.float64(), st.floats(1, 5)),
    "image_bytes": (pa.int64(), COUNTS),
    "width": (pa.int32(), COUNTS),
    "height": (pa.int32(), COUNTS),
    "nsfw_score": (pa.float64(), SCORES),
    "clip_score": (pa.float64(), SCORES),
    "phash_distance": (pa.int32(), st.integers(0, 9)),
    "phash_nearest": (pa.string(), st.sampled_from(["val/1.jpg", "coco/2"])),
    "pdq_distance": (pa.int32(), st.integers(0, 32)),
    "pdq_nearest": (pa.string(), st.sampled_from(["val/1.jpg", "coco/2"])),
    "embedding_similarity": (pa.float32(), SCORES),
    "embedding_nearest": (pa.string(), st.sampled_from(["val/1.jpg", "coco/2"])),
    "duplicate_of": (pa.string(), st.sampled_from(("0" * 32, "f" * 32))),
}
Row = dict[str, Any]


def every_rule() -> list[Rule]:
    """Return each distinct rule once; the presets share many."""
    rules: list[Rule] = [
        Intact(),
        FileName(),
        PhashDistance(min_exclusive=8),
        EmbeddingSimilarity(max_inclusive=0.975),
    ]
    for path in sorted(RECIPES.glob("*.toml")):
        rules += [rule for rule in parse(path.read_text(), path.name).rules if rule not in rules]
    return rules


every_one = pytest.mark.parametrize("rule", every_rule(), ids=lambda rule: rule.name)


def rows(rule: Rule) -> st.SearchStrategy[list[Row]]:
    columns = {name: st.none() | COLUMNS[name][1] for name in rule.columns}
    return st.lists(st.fixed_dictionaries(columns), max_size=9)


def batch(rule: Rule, rows: list[Row]) -> pa.RecordBatch:
    """Return rows with the columns that the rule names, and no others."""
    schema = pa.schema([(name, COLUMNS[name][0]) for name in rule.columns])
    return pa.RecordBatch.from_pylist(rows, schema)


def verdicts(rule: Rule, rows: list[Row]) -> list[str | None]:
    return rule(batch(rule, rows)).to_pylist()


@every_one
@settings(max_examples=30)
@given(data=st.data())
def test_a_verdict_depends_on_its_own_row_only(rule: Rule, data: st.DataObject) -> None:
    a, b = data.draw(rows(rule)), data.draw(rows(rule))

    assert verdicts(rule, a + b) == verdicts(rule, a) + verdicts(rule, b)
    assert verdicts(rule, b + a) == verdicts(rule, b) + verdicts(rule, a)
    assert verdicts(rule, a[::-1]) == verdicts(rule, a)[::-1]
    assert rule(batch(rule, a).slice(1)).to_pylist() == verdicts(rule, a[1:])


@every_one
@settings(max_examples=30)
@given(data=st.data())
def test_a_reason_is_one_of_the_limits_and_has_a_value_to_show(
    rule: Rule, data: st.DataObject
) -> None:
    judged = batch(rule, data.draw(rows(rule)))
    reasons = rule(judged)
    shown = rule.shown(judged.filter(reasons.is_valid()))

    assert (reasons.type, shown.type, shown.null_count) == (pa.string(), pa.string(), 0)
    assert set(reasons.drop_null().to_pylist()) <= {limit.reason for limit in rule.limits()}


@every_one
def test_reasons_are_named_after_the_rule(rule: Rule) -> None:
    reasons = [limit.reason for limit in rule.limits()]

    assert [reason.partition(".")[0] for reason in reasons] == [rule.name] * len(reasons)
    assert sorted(set(reasons)) == sorted(reasons)


@every_one
def test_what_is_unknown_breaks_no_rule(rule: Rule) -> None:
    assert verdicts(rule, [{}, {}]) == [None, None]


@every_one
def test_no_rows_have_no_verdicts(rule: Rule) -> None:
    none = batch(rule, [])

    assert (rule(none), rule.shown(none)) == (pa.array([], pa.string()), pa.array([], pa.string()))


@every_one
def test_a_pickled_rule_is_the_same_rule(rule: Rule) -> None:
    assert pickle.loads(pickle.dumps(rule)) == rule


@every_one
def test_a_rule_says_what_it_does(rule: Rule) -> None:
    assert re.fullmatch(r"Keep [^\n]+\.", rule.what)
