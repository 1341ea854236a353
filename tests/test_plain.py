"""The oracle itself, against examples worked out by hand."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.plain import LATE, Plain, filter_plainly, text_key, tokens

REALALT = Path(__file__).parents[2] / "shared" / "data" / "realalt"
PIXELS_BEGIN = 8 + 25 + 8  # of a PNG: signature, IHDR, and the head of IDAT


def png(width: int, height: int, colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def write_captions(folder: Path, *captions: str) -> None:
    urls = [f"https://e.example/{i}.jpg" for i in range(len(captions))]
    pq.write_table(pa.table({"url": urls, "caption": captions}), folder / "part.parquet")


def column(plain: Plain, *names: str) -> list[Any]:
    rows = [tuple(row[name] for name in names) for row in plain.rows]
    return [row[0] for row in rows] if len(names) == 1 else rows


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("", []),
        ("Don't stop", ["don't", "stop"]),
        ("rock 'n' roll", ["rock", "n", "roll"]),
        ("O\u2019Neill's hat", ["o\u2019neill's", "hat"]),
        ("a''b 'c' d'", ["a", "b", "c", "d"]),
        ("d\uff07or", ["d'or"]),
        ("1'2 a'-b", ["1'2", "a", "b"]),
        ("Cafe\u0301 x\u0301y", ["caf\u00e9", "x\u0301y"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", ["\u0939\u093f\u0928\u094d\u0926\u0940"]),
        ("snake_case well-known", ["snake", "case", "well", "known"]),
        ("\uff12\uff10\uff12\uff10 \uff21\uff22 x\u00b2 \u00bd", ["2020", "ab", "x2", "1", "2"]),
        ("\u2163 \ufb01sh \U0001f600", ["iv", "fish"]),
    ],
)
def test_tokens_are_runs_of_letters_marks_and_digits(caption: str, expected: list[str]) -> None:
    assert tokens(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (None, None),
        (" \t\u3000", None),
        (" \uff21  Red\u3000SHOE\n", "a red shoe"),
        ("Cafe\u0301!", "caf\u00e9!"),
    ],
)
def test_a_text_key_forgets_case_width_and_spacing(
    caption: str | None, expected: str | None
) -> None:
    assert text_key(caption) == expected


def test_ngrams_are_ranked_by_count_and_then_by_their_bytes(tmp_path: Path) -> None:
    write_captions(tmp_path, "\u00e9", "B a b", "a b", "-")

    plain = filter_plainly(tmp_path, {"tables": {"max_ngrams": 3}})

    assert plain.ngrams == [
        (1, "b", 3),
        (2, "a", 2),
        (3, "a b", 2),
        (4, "b a", 1),
        (5, "\u00e9", 1),
    ]
    assert column(plain, "token_count", "ngram_rank") == [(1, 4), (3, 4), (2, 3), (0, None)]


def test_a_row_has_all_measured_columns(tmp_path: Path) -> None:
    image = png(300, 200)
    json_member = json.dumps({"URL": "https://e.example/1.jpg", "caption": None}).encode()
    members = [("d/7.png", image), ("d/7.json", json_member), ("d/7.txt", b"A cat")]
    write_tar(tmp_path / "a" / "00000.tar", members)

    plain = filter_plainly(tmp_path, {})

    score = plain.rows[0]["language_score"]
    assert plain.rows == [
        {
            "shard": "a/00000",
            "uid": "ad19bb79ecbba2904c1e74e1b613927e",
            "key": "d/7",
            "url": "https://e.example/1.jpg",
            "caption": "A cat",
            "error": None,
            "char_count": 5,
            "word_count": 2,
            "token_count": 2,
            "language": "en",
            "language_score": score,
            "ngram_rank": 3,
            "images_per_text": 1,
            "texts_per_image": 1,
            "width": 300,
            "height": 200,
            "shorter_side_px": 200,
            "aspect_ratio": 1.5,
            "image_bytes": len(image),
            "format": "PNG",
            "nsfw_score": None,
            "clip_score": None,
            **dict.fromkeys(LATE),
            "decoded": True,
            "reason": None,
            "broken": 0,
        }
    ]
    assert plain.texts == {"a cat": 1}
    assert plain.images == {hashlib.sha256(image).hexdigest(): 1}
    assert plain.funnel == {"rows_in": 1, "kept": 1}


def test_a_uid_is_the_inputs_own_or_else_a_hash_of_url_and_caption(tmp_path: Path) -> None:
    own = "0123456789abcdef" * 2
    table = {
        "url": ["u", "https://e.example/1.jpg", "https://e.example/1.jpg", None],
        "text": ["A dog", "A cat", None, "A cat"],
        "uid": [own, own.upper(), own + "0", None],
    }
    pq.write_table(pa.table(table), tmp_path / "part.parquet")

    plain = filter_plainly(tmp_path, {})

    of_no_caption, of_no_url = (
        "c0bfe06be160bd457a07a0b9be326a6d",
        "3ffcd460989292d3a8e75f4f2604bc7b",
    )
    uids = [own, "ad19bb79ecbba2904c1e74e1b613927e", of_no_caption, of_no_url]
    assert column(plain, "uid") == uids
    assert plain.subset == sorted({own, "ad19bb79ecbba2904c1e74e1b613927e", of_no_url})
    assert plain.funnel == {"rows_in": 4, "kept": 3, "intact.caption_missing": 1}


def test_an_image_without_url_is_known_by_its_bytes(tmp_path: Path) -> None:
    image = png(1, 1)
    write_tar(tmp_path / "0.tar", [("1.png", image), ("1.txt", b"A cat")])

    plain = filter_plainly(tmp_path, {})

    image_key = hashlib.sha256(image).hexdigest()
    assert plain.images == {image_key: 1}
    assert plain.subset == [hashlib.sha256(f"{image_key}\0A cat".encode()).hexdigest()[:32]]


def test_a_parquets_rows_come_first_and_take_the_samples_of_their_key(tmp_path: Path) -> None:
    first, second, third = png(1, 1), png(2, 2), png(3, 3)
    table = {"key": ["2", "1", "2", "3"], "caption": ["two", "one", "again", "none"]}
    pq.write_table(pa.table(table), tmp_path / "0.parquet")
    members = [("1.png", first), ("1.txt", b"unused"), ("2.png", second), ("2.PNG", third)]
    write_tar(tmp_path / "0.tar", [*members, (".3.png", first), ("4.jpg", first), ("4.txt", b"4")])

    plain = filter_plainly(tmp_path, {})

    assert column(plain, "key", "caption", "width", "reason") == [
        ("2", "two", 2, None),
        ("1", "one", 1, None),
        ("2", "again", 3, "intact.duplicate_key"),
        ("3", "none", None, "intact.image_missing"),
        ("4", "4", 1, None),
    ]


def test_the_first_error_of_a_row_is_its_reason(tmp_path: Path) -> None:
    image = png(9, 9)
    table = {
        "key": ["1", "1", "2", "3", "4", "5", "6", "7", "8"],
        "status": [None, "failed", "failed"] + ["success"] * 6,
        "caption": pa.array(
            [b"a", b"a", b"\xff", b"a\xff", b" ", b"a", b"a", b"a", b"a"], pa.binary()
        ),
        "img": [
            image,
            image,
            None,
            b"bad",
            None,
            b"",
            b"no image",
            png(10, 9),
            image[: PIXELS_BEGIN + 4],
        ],
    }
    pq.write_table(pa.table(table), tmp_path / "part.parquet")

    plain = filter_plainly(tmp_path, {"images": {"max_pixels": 81}})

    assert column(plain, "reason", "caption", "image_bytes", "decoded") == [
        (None, "a", len(image), True),
        ("intact.duplicate_key", "a", len(image), None),
        ("intact.download_failed", "\ufffd", None, None),
        ("intact.caption_not_utf8", "a\ufffd", 3, None),
        ("intact.caption_missing", " ", None, None),
        ("intact.image_missing", "a", 0, None),
        ("intact.image_undecodable", "a", 8, None),
        ("intact.image_too_large", "a", len(png(10, 9)), None),
        ("intact.image_damaged", "a", PIXELS_BEGIN + 4, False),
    ]


def test_only_rows_that_all_other_rules_keep_are_decoded(tmp_path: Path) -> None:
    damaged = png(300, 200)[: PIXELS_BEGIN + 4]
    members = [("1.png", damaged), ("1.txt", b"one two"), ("2.png", damaged), ("2.txt", b"one")]
    write_tar(tmp_path / "0.tar", members)
    rules = {"word_count": {"min_inclusive": 2}}

    judged = ("decoded", "reason", "broken")
    plain = filter_plainly(tmp_path, {"rules": rules})
    undecoded = filter_plainly(tmp_path, {"rules": rules, "images": {"decode": False}})

    assert column(plain, *judged) == [
        (False, "intact.image_damaged", 1),
        (None, "word_count.too_short", 2),
    ]
    assert column(undecoded, *judged) == [(None, None, 0), (None, "word_count.too_short", 2)]


def test_the_reason_is_the_first_broken_rule_and_the_mask_has_all(tmp_path: Path) -> None:
    table = {
        "url": ["u1", "u2", "u3", "u4"],
        "caption": ["a", "a", "a b c", None],
        "WIDTH": [10, 30, 10, 10],
        "HEIGHT": [10, 10, 20, None],
        "similarity": [0.3, 0.29, None, 0.1],
    }
    pq.write_table(pa.table(table), tmp_path / "part.parquet")
    rules = {
        "clip_score": {"min_inclusive": 0.3},
        "aspect_ratio": {"max_exclusive": 3, "min_exclusive": 1},
        "images_per_text": {"max_inclusive": 1},
        "token_count": {"min_exclusive": 1, "max_exclusive": 3},
    }

    plain = filter_plainly(tmp_path, {"rules": rules})

    assert column(plain, "reason", "broken") == [
        ("aspect_ratio.too_square", 0b11100),
        ("clip_score.too_low", 0b11110),
        ("token_count.too_long", 0b10000),
        ("intact.caption_missing", 0b00011),
    ]
    assert plain.texts == {"a": 2, "a b c": 1}
    assert plain.images == Counter({"u1": 1, "u2": 1, "u3": 1, "u4": 0})
    assert plain.subset == []
    assert plain.funnel == {
        "rows_in": 4,
        "kept": 0,
        "aspect_ratio.too_square": 1,
        "clip_score.too_low": 1,
        "intact.caption_missing": 1,
        "token_count.too_long": 1,
    }


def test_another_language_is_dropped_only_where_it_is_sure(tmp_path: Path) -> None:
    german = "Das ist ein sch\u00f6nes Haus mit einem gro\u00dfen Garten"
    write_captions(tmp_path, german, "This is a large\nhouse with a garden")
    score = filter_plainly(tmp_path, {}).rows[0]["language_score"]

    at, above, kept = (
        filter_plainly(tmp_path, {"rules": {"language": limits}})
        for limits in (
            {"max_other_score_exclusive": score},
            {"max_other_score_exclusive": score + 0.001},
            {"max_other_score_exclusive": 0.5, "keep": ["de", "en"]},
        )
    )

    assert column(at, "language", "reason") == [("de", "language.other"), ("en", None)]
    assert column(above, "language", "reason") == [("de", None), ("en", None)]
    assert column(kept, "language", "reason") == [("de", None), ("en", None)]


def test_a_broken_tar_keeps_its_parquets_rows(tmp_path: Path) -> None:
    table = {"key": ["1", "2", "3"], "caption": ["one", "two", "three"]}
    members = [(f"{key}.png", png(9, 9) + bytes(2000)) for key in "123"]
    for name, length in [("0", 3000), ("1", 5700), ("2", 0)]:
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
        path = tmp_path / f"{name}.tar"
        write_tar(path, members)
        path.write_bytes(path.read_bytes()[:length])

    plain = filter_plainly(tmp_path, {})

    missing = "intact.image_missing"
    assert column(plain, "shard", "reason") == [
        *zip("000", [None, missing, missing], strict=True),
        *zip("111", [None, None, missing], strict=True),
        *zip("222", [missing] * 3, strict=True),
    ]


def test_lone_surrogates_and_bad_bytes_in_a_json_are_not_utf8(tmp_path: Path) -> None:
    members = [
        ("1.json", b'{"caption": "a\\ud800"}'),
        ("2.json", b'{"caption": "a\xff", "url": "u"}'),
        ("3.json", b'{"caption": "\\ud83d\\ude00"}'),
        ("4.json", b"{"),
        ("4.txt", b"four"),
    ]
    write_tar(tmp_path / "0.tar", members)

    plain = filter_plainly(tmp_path, {})

    assert column(plain, "caption", "error") == [
        ("a\ufffd", "caption_not_utf8"),
        ("a\ufffd", "caption_not_utf8"),
        ("\U0001f600", "image_missing"),
        ("four", "image_missing"),
    ]


def test_a_recipe_may_name_the_columns_and_a_struct_may_hold_the_image(tmp_path: Path) -> None:
    table = {
        "caption": ["unused", "unused"],
        "my_alt": ["mine", "mine"],
        "image": [{"bytes": png(4, 2), "path": "a.png"}, {"bytes": None, "path": "b.png"}],
        "original_width": [40, 40],
        "original_height": [20, 0],
    }
    pq.write_table(pa.table(table), tmp_path / "part.parquet")

    plain = filter_plainly(tmp_path, {"columns": {"caption": "my_alt"}})

    assert column(plain, "key", "caption", "width", "height", "texts_per_image", "error") == [
        ("000000000", "mine", 40, 20, 1, None),
        ("000000001", "mine", None, None, None, "image_missing"),
    ]


@pytest.mark.parametrize("name", ["capitalisation", "repetition", "boilerplate"])
def test_a_rule_that_the_oracle_does_not_know_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyError, match=name):
        filter_plainly(tmp_path, {"rules": {name: {}}})


@pytest.mark.skipif(not REALALT.is_dir(), reason="shared/data/realalt is absent")
def test_real_alt_texts_count_as_their_readme_says() -> None:
    plain = filter_plainly(REALALT, {"images": {"decode": False}})

    assert plain.funnel["rows_in"] == 4824
    assert len(plain.images) == 3918
    assert plain.texts["see caption"] == 351
