"""The vocabulary of a run: named, or of the captions, or of the words that a filter run counted."""

from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")

from filters.rule import RecipeError
from pipelines.sample import write_sample
from recaption.wordpiece import SPECIALS, count_words
from tests.plain import read_rows, tokens
from tests.train.corpora import opened, write_tars
from train.settings import Vocabulary
from train.vocabulary import captions_of, count_tables, make_tokenizer


def test_the_captions_that_are_counted_are_those_learnt_from(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    data = opened(write_tars(tmp_path / "shards", (2, 1)))

    assert sorted(captions_of(data)) == [
        "picture 0 of shard 0",
        "picture 0 of shard 1",
        "picture 1 of shard 0",
    ]


def test_the_words_of_a_filter_run_are_those_of_its_raw_captions(
    sample: Path, filtered: Path
) -> None:
    counts = count_tables([filtered])

    plain = Counter(word for row in read_rows(sample, {}) for word in tokens(row.caption or ""))
    ours = count_words(word for word in plain.elements())
    marks = {word: count for word, count in counts.items() if not word.isalnum()}
    assert {word: count for word, count in counts.items() if word not in marks} == {
        word: count for word, count in ours.items() if word not in marks
    }
    assert {*"!,.?-"} <= marks.keys()


def test_the_same_words_give_the_same_vocabulary(filtered: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    data = opened(write_tars(tmp_path / "shards", (2, 1)))
    settings = Vocabulary(size=200, words="tables")

    both = [make_tokenizer(settings, [filtered], data, 16) for _ in range(2)]

    assert both[0].digest == both[1].digest
    assert both[0].vocabulary[: len(SPECIALS)] == list(SPECIALS)
    assert len(both[0].vocabulary) == 200


def test_a_folder_that_is_no_filter_run_has_counted_no_words(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", rows=10)

    with pytest.raises(RecipeError, match=r"must have filter runs to learn from, got .*/sample"):
        count_tables([tmp_path / "sample"])


def test_a_vocabulary_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    data = opened(write_tars(tmp_path / "shards", (2, 1)))
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in (*SPECIALS, "of")))

    tokenizer = make_tokenizer(Vocabulary(path=str(tmp_path)), [], data, 16)

    assert tokenizer.vocabulary == [*SPECIALS, "of"]
