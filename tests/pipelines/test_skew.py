"""However unevenly names and rows are spread, a run finds what the plain version finds."""

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from pipelines.plan import plan_filter, read_recipe
from pipelines.run import run_filter
from tests.outputs import expected_of, found_by
from tests.plain import filter_plainly
from tests.shards import write_parquet

WORDS = ("red", "blue", "shoe", "dog", "cat", "photo", "of", "grass", "a", "the", "house", "tree")
ROWS = 3_000
MANY = 1_500
"""Alt-texts of one image: more than the 1,000 that the recipe allows."""
CHANGES = ("rules.images_per_text.max_inclusive=100",)


def skewed(kind: str) -> list[tuple[str, str]]:
    """Return rows, a URL and a caption each."""
    chance = random.Random(11)
    rows = [
        (f"https://e.example/{n}.jpg", " ".join(chance.choices(WORDS, k=6))) for n in range(ROWS)
    ]
    if kind == "text":
        rows = [
            (url, "a photo of the house" if chance.random() < 0.3 else text) for url, text in rows
        ]
    if kind == "image":
        rows[:MANY] = [("https://e.example/logo.png", f"logo {n} of a shop") for n in range(MANY)]
    return rows


@pytest.mark.parametrize("kind", ["text", "image", "shard"])
def test_a_skewed_corpus_is_filtered_as_plainly(kind: str, tmp_path: Path) -> None:
    rows = skewed(kind)
    small = 15 if kind == "shard" else ROWS // 6
    cuts = [at * small for at in range(6)] + [ROWS]  # of "shard" the last has 195 times the others
    for number, (first, end) in enumerate(pairwise(cuts)):
        urls, captions = zip(*rows[first:end], strict=True)
        columns = {"url": [*urls], "caption": [*captions]}
        write_parquet(tmp_path / "in" / f"{number}.parquet", columns)
    recipe = read_recipe("align", CHANGES)
    planned = plan_filter(str(tmp_path / "in"), tmp_path / "out", recipe, workers=1)
    planned = replace(planned, run=replace(planned.run, partitions=8))

    run_filter(planned)

    expected = expected_of(filter_plainly(tmp_path / "in", recipe.as_dict()))
    dropped = {"text": "images_per_text.too_many", "image": "texts_per_image.too_many"}
    assert kind == "shard" or expected["funnel"][dropped[kind]] > ROWS // 5
    assert found_by(tmp_path / "out") == expected
