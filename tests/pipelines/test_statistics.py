"""Statistics: those of the parts, added up in any order, are those of the whole."""

import copy
import json
from collections import Counter
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.aspect_ratio import AspectRatio
from filters.decision import judge
from filters.intact import ERRORS
from filters.rule import Rule
from filters.token_count import TokenCount
from pipelines.schema import COLUMNS
from pipelines.statistics import EXAMPLES, Place, add, edges, measure

RULES: list[Rule] = [TokenCount(min_inclusive=3, max_inclusive=20), AspectRatio(max_exclusive=3)]
BINNED = ("token_count", "aspect_ratio", "clip_score", "ngram_rank", "images_per_text")

ROW = st.fixed_dictionaries(
    {
        "uid": st.sampled_from(["0" * 32, "1" * 32, "f" * 32])
        | st.integers(3, 99).map("{:032}".format),
        "key": st.just("k"),
        "caption": st.none() | st.sampled_from(["a", "x" * 400, "\u72ac" * 401]),
        "error": st.none() | st.sampled_from(ERRORS),
        "token_count": st.none() | st.sampled_from([0, 2, 3, 20, 21, 64, 65, 66, 5000]),
        "aspect_ratio": st.none() | st.sampled_from([1.0, 2.99, 3.0, 6.0, 7.5, float("inf")]),
        "language": st.none() | st.sampled_from(["en", "de"]),
        "format": st.none() | st.sampled_from(["JPEG", "PNG"]),
        "clip_score": st.none() | st.floats(-1, 1),
        "ngram_rank": st.none() | st.sampled_from([1, 2, 10**8, 10**9 + 1]),
        "images_per_text": st.none() | st.sampled_from([1, 2, 10**7]),
        "decoded": st.none() | st.booleans(),
    }
)
Row = dict[str, Any]


def measured(rows: list[Row], place: Place) -> dict[str, Any]:
    columns = pa.RecordBatch.from_pylist(rows, COLUMNS)
    return measure(columns, judge(columns, RULES), RULES, place)


@settings(max_examples=40)
@given(
    rows=st.lists(ROW, max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=3),
    order=st.randoms(use_true_random=False),
)
def test_the_parts_add_up_to_the_whole(rows: list[Row], cuts: list[int], order: Any) -> None:
    bounds = pairwise([0, *sorted(cuts), 40])
    parts = [measured(rows[a:b], Place("s", a)) for a, b in bounds]
    parts = json.loads(json.dumps(parts))  # as finished tasks keep them
    order.shuffle(parts)

    assert add(parts) == measured(rows, Place("s", 0))


@settings(max_examples=40)
@given(
    parts=st.lists(st.tuples(st.lists(ROW, max_size=20), st.sampled_from("abc")), max_size=5),
    cut=st.integers(0, 5),
)
def test_sums_may_be_added_up(parts: list[tuple[list[Row], str]], cut: int) -> None:
    every = [measured(rows, Place(shard, at * 100)) for at, (rows, shard) in enumerate(parts)]
    before = copy.deepcopy(every)

    total = add(every)

    assert add([add(every[:cut]), add(every[cut:])]) == total
    assert add([add(every[cut:]), add([]), add(every[:cut])]) == total
    assert add(every[::-1]) == total
    assert every == before


def test_nothing_adds_up_to_nothing() -> None:
    assert add([]) == {}
    assert add([{}, {}]) == {}


def test_what_stages_found_is_collected_by_shard_and_table() -> None:
    found = [
        {"rows": 3, "shards": {"a": {"rows": 3, "damage": ["x"]}}},
        {"tables": {"texts": {"distinct": 2, "shared": 1}}},
        {"shards": {"b": {"rows": 0, "damage": []}}},
        {"tables": {"texts": {"distinct": 5, "shared": 0}, "ngrams": {"listed": 7}}},
        {"shards": {"a": {"kept": 1}}},
    ]

    assert add(found) == {
        "rows": 3,
        "shards": {"a": {"rows": 3, "damage": ["x"], "kept": 1}, "b": {"rows": 0, "damage": []}},
        "tables": {"texts": {"distinct": 7, "shared": 1}, "ngrams": {"listed": 7}},
    }


@settings(max_examples=40)
@given(rows=st.lists(ROW, max_size=40))
def test_every_row_is_counted_once(rows: list[Row]) -> None:
    found = measured(rows, Place("s", 0))

    assert found["rows"] == len(rows)
    assert sum(found["reasons"].values()) == len(rows)
    assert sum(found["masks"].values()) == len(rows)
    for name in BINNED:
        values = [row[name] for row in rows]
        bins = found["histograms"][name]
        assert sum(bins["kept"]) + sum(bins["dropped"]) == sum(v is not None for v in values)
        assert bins["missing"] == values.count(None)
    for name in ("language", "error", "format"):
        both = Counter(found["categories"][name][0]) + Counter(found["categories"][name][1])
        assert both == Counter(row[name] for row in rows if row[name] is not None)


def test_a_row_is_on_the_side_of_its_verdict() -> None:
    rows = [
        {"uid": "a" * 32, "token_count": 3, "language": "en", "decoded": True},
        {"uid": "b" * 32, "token_count": 5, "language": "en"},
        {"uid": "c" * 32, "token_count": 2, "language": "de", "aspect_ratio": 9.0},
        {"uid": "d" * 32, "error": "image_missing"},
    ]

    found = measured(rows, Place("s", 0))

    tokens = found["histograms"]["token_count"]
    assert found["reasons"] == {"kept": 2, "token_count.too_short": 1, "intact.image_missing": 1}
    assert found["masks"] == {"0": 2, str(2 + 4): 1, "1": 1}
    assert found["unjudged"] == {"token_count": 1, "aspect_ratio": 3}
    assert found["unchecked"] == 1
    assert found["categories"]["language"] == [{"en": 2}, {"de": 1}]
    assert [i for i, n in enumerate(tokens["kept"]) if n] == [3, 5]
    assert [i for i, n in enumerate(tokens["dropped"]) if n] == [2]


@pytest.mark.parametrize("name", ["token_count", "image_bytes", "ngram_rank", "aspect_ratio"])
def test_what_lies_beyond_the_ends_is_in_the_end_bins(name: str) -> None:
    _, bounds = edges(name)
    kind = float if name == "aspect_ratio" else int
    values = [kind(bounds[0]), kind(bounds[0]) - 1, kind(bounds[-1]), kind(bounds[-1]) * 2]
    rows = [{"uid": "a" * 32, name: value} for value in values]

    bins = measured(rows, Place("s", 0))["histograms"][name]

    both = [a + b for a, b in zip(bins["kept"], bins["dropped"], strict=True)]
    assert (both[0], both[-1], sum(both), len(both)) == (2, 2, 4, len(bounds) - 1)


@given(uids=st.lists(st.integers(0, 30), min_size=1, max_size=60), cut=st.integers(0, 60))
def test_examples_are_the_rows_with_the_smallest_uids(uids: list[int], cut: int) -> None:
    rows = [{"uid": f"{uid:032x}", "key": str(at), "token_count": 3} for at, uid in enumerate(uids)]

    found = add([measured(rows[:cut], Place("s", 0)), measured(rows[cut:], Place("s", cut))])

    smallest = sorted((f"{uid:032x}", at) for at, uid in enumerate(uids))[:EXAMPLES]
    told = [(row["uid"], row["row"]) for row in found["examples"]["kept"]]
    assert told == smallest
    assert [row["key"] for row in found["examples"]["kept"]] == [str(at) for _, at in smallest]


def test_an_example_tells_what_a_report_shows() -> None:
    row = {
        "uid": "a" * 32,
        "key": "k",
        "url": "u",
        "caption": "c" * 500,
        "width": 9,
        "height": 3,
        "aspect_ratio": 3.0,
        "token_count": 5,
        "image_offset": 512,
        "image_bytes": 7,
        "pdq_nearest": "val/1.jpg",
    }

    found = measured([{"uid": "b" * 32}, row], Place("deep/0", 1000))

    assert found["examples"]["aspect_ratio.too_long"] == [
        dict.fromkeys(COLUMNS.names)
        | row
        | {
            "value": "3",
            "threshold": "aspect_ratio < 3",
            "caption": "c" * 400,
            "length": 500,
            "verdicts": [
                ["intact", "none", "ok"],
                ["token_count", "5", "ok"],
                ["aspect_ratio", "3", "aspect_ratio.too_long"],
            ],
            "shard": "deep/0",
            "row": 1001,
        }
    ]


def test_histograms_are_of_measured_columns() -> None:
    found = measured([], Place("s", 0))

    assert set(found["histograms"]) <= set(COLUMNS.names)
    assert {edges(name)[0] for name in found["histograms"]} == {"linear", "log"}
    assert all(a < b for name in found["histograms"] for a, b in pairwise(edges(name)[1]))
