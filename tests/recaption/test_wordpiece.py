"""WordPiece: the same vocabulary everywhere, and the ids of BERT's tokenizer."""

import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from filters.rule import RecipeError

pytest.importorskip("torch", reason="needs the extra recaption")
transformers = pytest.importorskip("transformers", reason="needs the extra recaption")

from recaption.wordpiece import (  # noqa: E402  # it needs the extra, too
    MIN_COUNT,
    SPECIALS,
    Tokenizer,
    count_words,
    train_wordpiece,
)

CAPTIONS = [
    "A photo of a small red star on the grass",
    "There is a large red heart on wooden boards",
    "The smallest stars, the largest hearts: a photographer's photographs!",
    "Ein Stern auf der Wiese, größer als alle",
    "这张照片里有一个红色的星星",
    "reddish redder reddest hearts hearted starred starring",
]
WORDS = count_words(CAPTIONS * 3)
ODD = ["", "   ", "\ud800", "\x00\x01", "\U0001f600\U0001f44d\U0001f3fd", "e\u0301" * 300, "ﬁ Ⅻ ½"]
OURS = Tokenizer(train_wordpiece(WORDS, 150), 24)
BERTS = transformers.BertTokenizer(
    vocab={token: place for place, token in enumerate(OURS.vocabulary)}, do_lower_case=True
)
texts = st.text(max_size=60) | st.sampled_from([*CAPTIONS, *ODD, "red " * 500, "x" * 101])


def slow_vocabulary(words: dict[str, int], size: int) -> list[str]:
    """Learn it by counting all pairs anew before each joining."""
    spelt = {word: [word[0], *("##" + letter for letter in word[1:])] for word in words}
    letters = Counter[str]()
    for word, symbols in spelt.items():
        letters.update(symbols * words[word])
    tokens = [*SPECIALS, *sorted(letters, key=lambda symbol: (-letters[symbol], symbol))]
    while len(tokens) < size:
        pairs = Counter[tuple[str, str]]()
        for word, symbols in spelt.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        pair = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if pair is None or pairs[pair] < MIN_COUNT:
            break
        joined = pair[0] + pair[1][2:]
        tokens += [joined] if joined not in tokens else []
        for symbols in spelt.values():
            slow_join(symbols, pair, joined)
    return tokens


def slow_join(symbols: list[str], pair: tuple[str, str], joined: str) -> None:
    place = 0
    while place + 1 < len(symbols):
        if (symbols[place], symbols[place + 1]) == pair:
            symbols[place : place + 2] = [joined]
        place += 1


@pytest.mark.parametrize("size", [120, 150, 500])
def test_pairs_are_joined_in_the_order_of_a_plain_count(size: int) -> None:
    assert train_wordpiece(WORDS, size) == slow_vocabulary(WORDS, size)


def test_the_vocabulary_does_not_depend_on_the_order_of_words_or_the_process() -> None:
    program = (
        "import sys; from recaption.wordpiece import *;"
        "print(Tokenizer(train_wordpiece(eval(sys.stdin.read()), 150), 20).digest)"
    )
    backwards = dict(reversed(WORDS.items()))

    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=repr(words),
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for words, seed in ((dict(WORDS), "1"), (backwards, "2"))
    }

    assert digests == {Tokenizer(train_wordpiece(WORDS, 150), 20).digest + "\n"}


def test_letters_leave_room_for_pieces() -> None:
    words = {chr(0x4E00 + i): 5 for i in range(100)} | {"star": 9, "stars": 9}

    vocabulary = train_wordpiece(words, 40)

    assert len(vocabulary) < 40
    assert {"star", "stars"} <= set(vocabulary)
    assert train_wordpiece({}, 40) == list(SPECIALS)


@given(texts)
@example("A photo of [SEP] and [MASK]ed")
def test_ids_are_those_of_berts_tokenizer(text: str) -> None:
    ids, mask = OURS.encode([text])

    plain = text.encode("utf-8", "replace").decode()
    expected = BERTS(
        plain, truncation=True, max_length=24, padding="max_length", split_special_tokens=True
    )
    assert ids.tolist() == [expected["input_ids"]]
    assert mask.tolist() == [expected["attention_mask"]]


def test_the_file_is_read_by_berts_tokenizer(tmp_path: Path) -> None:
    ours = Tokenizer(train_wordpiece(WORDS, 150), 24)

    ours.save(tmp_path)

    berts = transformers.BertTokenizer.from_pretrained(tmp_path)
    again = Tokenizer.load(tmp_path, 24)
    assert again.vocabulary == ours.vocabulary
    assert again.digest == ours.digest
    assert Tokenizer.load(tmp_path / "vocab.txt", 24).digest == ours.digest
    assert berts.get_vocab() == {token: place for place, token in enumerate(ours.vocabulary)}
    padded = berts(CAPTIONS[2], padding="max_length", max_length=24)
    assert padded["input_ids"] == ours.encode(CAPTIONS[2:3])[0][0].tolist()


def test_bert_s_vocabulary_grows_by_two_tokens_as_in_blip() -> None:
    bert = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "star", "##s"]

    tokenizer = Tokenizer(bert, 6)

    assert tokenizer.vocabulary == [*bert, "[DEC]", "[ENC]"]
    assert tokenizer.specials.dec == 9
    assert tokenizer.specials.enc == 10
    assert tokenizer.encode(["Red stars", "blue"])[0].tolist() == [
        [3, 6, 7, 8, 4, 0],
        [3, 2, 4, 0, 0, 0],
    ]


def test_every_row_begins_with_cls_and_ends_with_sep() -> None:
    tokenizer = Tokenizer(train_wordpiece(WORDS, 150), 8)

    ids, mask = tokenizer.encode([*ODD, "red " * 100_000])

    ends = mask.sum(1) - 1
    assert (ids[:, 0] == tokenizer.specials.cls).all()
    assert (ids[np.arange(len(ids)), ends] == tokenizer.specials.sep).all()
    assert (ids[mask == 0] == tokenizer.specials.pad).all()
    assert tokenizer.encode([])[0].shape == (0, 8)


def test_what_is_decoded_is_the_caption_in_lower_case() -> None:
    tokenizer = Tokenizer(train_wordpiece(WORDS, 500), 24)
    ids, _ = tokenizer.encode(CAPTIONS[:3])

    assert [tokenizer.decode(row) for row in ids[:2]] == [text.lower() for text in CAPTIONS[:2]]
    assert tokenizer.decode(ids[2]).startswith("the smallest stars, the largest hearts")
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([tokenizer.specials.unk, 10**6]) == ""


@pytest.mark.parametrize(
    ("vocabulary", "max_tokens", "message"),
    [
        (["red", "star"], 8, r"must have \[PAD\].*got none of \[PAD\] \[UNK\]"),
        ([*SPECIALS, "red", "red"], 8, "got 'red' 2 times"),
        (list(SPECIALS), 2, "model.max_tokens must be 3 or more, got 2"),
    ],
)
def test_what_is_no_vocabulary_is_refused(
    vocabulary: list[str], max_tokens: int, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        Tokenizer(vocabulary, max_tokens)


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")

    with pytest.raises(RecipeError, match=r"readable file of one token per line.*vocab\.txt"):
        Tokenizer.load(tmp_path, 8)
    with pytest.raises(RecipeError, match="correct the path"):
        Tokenizer.load(tmp_path / "none", 8)
    with pytest.raises(RecipeError, match=r"vocabulary\.size must be 14 or more, got 3"):
        train_wordpiece(WORDS, 3)
