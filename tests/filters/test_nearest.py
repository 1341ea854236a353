"""The rules about the nearest test image."""

from typing import Any

import pyarrow as pa
import pytest

from filters.embedding_similarity import EmbeddingSimilarity
from filters.pdq_distance import PdqDistance
from filters.phash_distance import PhashDistance
from filters.rule import Rule


@pytest.mark.parametrize(
    ("rule", "values", "reasons"),
    [
        (PdqDistance(min_exclusive=31), [0, 31, 32, None], [True, True, False, False]),
        (PhashDistance(min_inclusive=5), [0, 4, 5, None], [True, True, False, False]),
        (
            EmbeddingSimilarity(max_inclusive=0.5),
            [1.0, 0.51, 0.5, None],
            [True, True, False, False],
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Rule) else "",
)
def test_what_is_near_a_test_image_goes(rule: Rule, values: list[Any], reasons: list[bool]) -> None:
    names = ["val/1.jpg", "val/2.jpg", None, None]
    batch = pa.record_batch({rule.columns[0]: pa.array(values), rule.columns[1]: pa.array(names)})

    found = rule(batch)

    assert found.to_pylist() == [f"{rule.name}.test_image" if gone else None for gone in reasons]
    shown = rule.shown(batch).to_pylist()
    assert shown[1] == f"{values[1]} to val/2.jpg"
    assert shown[2:] == [str(values[2]), None]
