"""The report of a filter run: true numbers, harmless text, nothing from outside."""

import json
import math
import random
import re
from base64 import b64encode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from filters.decision import judge
from filters.parsing import parse
from pipelines.decide import add_places
from pipelines.page import NONE, count, inert, share
from pipelines.report import MAX_BYTES, render, write_report
from pipelines.report_charts import needs
from pipelines.schema import COLUMNS
from pipelines.what_if import count_cells, grid_of, packed
from tests.browser import CHROMIUM, shown_in_silence

CAPTIONS = [
    "A photo of a large green triangle on wooden boards",
    "The old harbour of Honfleur in evening light",
    "\u041a\u0440\u0430\u0441\u043d\u044b\u0439 \u0434\u043e\u043c \u0443 \u0440\u0435\u043a\u0438",
    "\u05d0\u05e8\u05d1\u05e2 \u05de\u05d9\u05dc\u05d9\u05dd, 12 \u05d5-34",
    "img_2043.jpg",
    "</script><script>document.title='owned'</script><!-- <script>",
    "\"><img src=x onerror=alert(1)> {{ 7 * 7 }} {% raw %} '); alert(1) //",
    "left \u202eright to left\u2066 isolate \u2028 line",
    "nul \x00 bell \x07 escape \x1b[31m delete \x7f\r\n next line \ud800",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033da\u0334\u0319\u0324\u031e\u0349lgo",
    "word " * 200_000,
    None,
]
RULES: dict[str, tuple[str, list[tuple[str, Any, str, int]]]] = {
    "readable": ("error", [("is null", None, "error.unreadable", 31_204)]),
    "shorter_side": ("shorter_side_px", [(">", 200, "shorter_side.too_small", 1_204_551)]),
    "aspect_ratio": ("aspect_ratio", [("<", 3, "aspect_ratio.too_long", 88_110)]),
    "texts_per_image": ("texts_per_image", [("<=", 1000, "texts_per_image.too_many", 9_402)]),
    "images_per_text": ("images_per_text", [("<=", 10, "images_per_text.too_many", 641_733)]),
    "token_count": (
        "token_count",
        [(">=", 3, "token_count.too_few", 733_001), ("<=", 20, "token_count.too_many", 212_964)],
    ),
    "ngrams": ("ngram_rank", [("<=", 1_000_000, "ngram_rank.too_rare", 58_977)]),
    "language": ("language", [("in", ["en"], "language.other", 2_145_390)]),
    "nsfw": ("nsfw_score", [("<", 0.5, "nsfw.unsafe", 0)]),
}
DROPPED = {reason: rows for _, limits in RULES.values() for _, _, reason, rows in limits}


def example_summary() -> dict[str, Any]:
    """A run with something in every part, and with the captions that a crawl has."""
    chance = random.Random(7)
    texts = [text[:200] for text in CAPTIONS if text] * 3
    return {
        "title": "align",
        "recipe": {"name": "align"},
        "recipe_toml": 'name = "align"\n\n[rules.shorter_side]\nabove_px = 200  # </pre><script>\n',
        "recipe_digest": "9f2c" * 16,
        "code_version": "0.1.0+3f9a2c1",
        "input": "crawl/",
        "rows_in": 10_000_000,
        "kept": 10_000_000 - sum(DROPPED.values()),
        "dropped": DROPPED,
        "rules": [example_rule(name, *rule) for name, rule in RULES.items()],
        "masks": example_masks(chance),
        "histograms": {
            "shorter_side_px": example_histogram(16, 8192, 480),
            "aspect_ratio": example_histogram(1, 12, 1.3),
            "token_count": example_histogram(0, 60, 8),
            "language_score": example_histogram(0, 1, 0.9),
            "images_per_text": example_histogram(1, 1e5, 1.2),
            "texts_per_image": example_histogram(1, 512, 1),
        },
        "categories": {
            "language": [
                ["en", 4_874_668, 9],
                *([f"x{i}", 0, 10**6 // i**2] for i in range(1, 30)),
            ],
            "error": [["image_truncated", 0, 21_440], ["<script>", 0, 2_560], ["bomb", 0, 3]],
            "format": [["JPEG", 4_312_980, 4_100_201], ["PNG", 401_220, 690_110], ["GIF", 0, 1]],
        },
        "top_texts": [[text, 45_210 // 2**i + 4] for i, text in enumerate(texts)],
        "top_images": [[f"{chance.getrandbits(256):064x}", 4_105 // i] for i in range(1, 33)],
        "ngrams": {
            "distinct": 11_402_118,
            "occurrences": 171_220_004,
            "listed": 1_000_000,
            "limit": 1_000_000,
            "cut": {"rank": 1_000_000, "ngram": "harbour honfleur", "count": 9},
            "most": [[word, 9_000_000 // (i + 1)] for i, word in enumerate(("the", "of", "a"))],
            "around_cut": [[10**6 + i, f"left \u202e {i}", 9 - (i > 0)] for i in range(-5, 6)],
            "rank_counts": [[2**i, max(1, 9_000_000 >> i)] for i in range(24)],
        },
        "examples": {
            reason: [example_pair(reason, i, chance) for i in range(len(CAPTIONS))]
            for reason in ["kept", *DROPPED]
            if reason != "nsfw.unsafe"
        },
        "shards": [example_shard(i, chance) for i in range(300)],
        "hosts": {
            "distinct": 81_204,
            "top": [[f"<i>host-{i}", 900 - i, 7 * i] for i in range(50)],
        },
        "sharing": {
            name: [{"from": 2**i, "to": 2 ** (i + 1) - 1, "number": 4 ** (9 - i)} for i in range(9)]
            for name in ("texts", "images")
        },
        "what_if": example_what_if(),
        "captions": {"kept_before": 4_874_668, "kept": 5_101_226, "replaced": 40, "rescued": 7},
        "warnings": ["The rule nsfw did not run: the input has no column punsafe."],
        "notes": ["Images were decoded only for the 7,241,008 rows that the cheap rules keep."],
    }


def example_what_if() -> dict[str, Any]:
    """Rows of 0 to 30 tokens that are 100 to 300 px wide, by a recipe that keeps 3 to 20 of 200."""
    rules = "[rules.shorter_side]\nmin_exclusive = 200\n[rules.token_count]\n"
    recipe = parse(f'name = "a"\n{rules}min_inclusive = 3\nmax_inclusive = 20', "a")
    rows = [{"token_count": n, "shorter_side_px": px} for n in range(31) for px in (100, 201, 300)]
    columns = add_places(pa.RecordBatch.from_pylist(rows, COLUMNS), None)
    counted = count_cells(grid_of(recipe), columns, judge(columns, recipe.rules))
    return packed(counted) | {"decodes": True, "copies": None}


def example_rule(name: str, column: str, limits: list[tuple[str, Any, str, int]]) -> dict[str, Any]:
    first = sum(rows for *_, rows in limits)
    return {
        "name": name,
        "title": f"{column} {limits[0][0]} {limits[0][1]}",
        "column": column,
        "limits": [{"op": op, "value": value, "reason": reason} for op, value, reason, _ in limits],
        "broken": first * 17 // 10,
        "first": first,
        "only": first * 6 // 10,
        "unjudged": 31_204 if name == "aspect_ratio" else 0,
        "skipped": "no column punsafe in the input" if name == "nsfw" else None,
    }


def example_masks(chance: random.Random) -> list[dict[str, Any]]:
    names = [*RULES][:-1]
    drawn = {tuple(sorted(chance.sample(names, k), key=names.index)) for k in (1, 1, 2, 3) * 20}
    combinations = sorted(drawn, key=lambda rules: (len(rules), rules))[:40]
    return [{"rules": [*c], "rows": 1_822_926 // (i + 1) ** 2} for i, c in enumerate(combinations)]


def example_histogram(low: float, high: float, middle: float) -> dict[str, Any]:
    steps = [i / 40 for i in range(41)]
    edges = [low * (high / low) ** s if low else high * s for s in steps]
    peak = min(range(40), key=lambda i: abs(edges[i] - middle))
    rows = [int(900_000 * math.exp(-(((i - peak) / 6) ** 2) / 2)) for i in range(40)]
    kept = [n * 3 // 5 for n in rows]
    dropped = [n - k for n, k in zip(rows, kept, strict=True)]
    scale = "log" if low else "linear"
    return {"edges": edges, "kept": kept, "dropped": dropped, "missing": 31_204, "scale": scale}


def example_pair(reason: str, i: int, chance: random.Random) -> dict[str, Any]:
    width, height = chance.choice([(640, 480), (300, 450), (900, 260)])
    no_picture = reason.startswith("error") or i == 9
    return {
        "uid": f"{chance.getrandbits(128):032x}",
        "key": f"{i:09d}",
        "shard": "00017",
        "row": i,
        "token_count": i,
        "language_score": 0.25,
        "language": "\u202een<b>",
        "phash": None,
        "verdicts": [["shorter_side", None, "ok"], ["language", "<b>de", "language.other"]],
        "length": len(CAPTIONS[i] or ""),
        "caption": CAPTIONS[i] and CAPTIONS[i][:400],
        "url": f"https://images.example.org/{chance.getrandbits(64):x}/photo-{i}.jpg?<b>",
        "value": None if reason == "kept" else "2 tokens",
        "threshold": None if reason == "kept" else "3 to 20",
        "thumbnail": None if no_picture else thumbnail(width // 6, height // 6, chance),
        "beside": {"thumbnail": thumbnail(50, 40, chance), "name": "test image"}
        if i == 8
        else None,
        "width": None if no_picture else width,
        "height": None if no_picture else height,
    }


def thumbnail(width: int, height: int, chance: random.Random) -> str:
    picture = Image.new("RGB", (width, height), (chance.randrange(99, 200), 120, 110))
    centre = (chance.randrange(width), chance.randrange(height))
    ImageDraw.Draw(picture).circle(centre, height // 3, (chance.randrange(200), 160, 90))
    file = BytesIO()
    picture.save(file, "JPEG")
    return "data:image/jpeg;base64," + b64encode(file.getvalue()).decode()


def example_shard(i: int, chance: random.Random) -> dict[str, Any]:
    kept = 666 if i % 90 == 17 else 16_000 + chance.randrange(400)
    dropped = {"token_count.too_few": 1_200, "language.other": 33_334 - kept - 1_200}
    return {"shard": f"{i:05d}", "rows": 33_334, "kept": kept, "bytes": 10**9, "dropped": dropped}


class Page(HTMLParser):
    """What a reader finds on a page: rows of cells, words, and the elements that hold them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.settings = ""
        self._in_cell = False
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_cell = self._in_cell or tag in {"td", "th"}
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][1].get("id") == "settings":
            self.settings += data
        elif self.cdata_elem is None and data.strip():
            self.words.append(data)
            if self._in_cell:
                self.rows[-1][-1] += data.strip()

    def having(self, attribute: str) -> list[str]:
        return [held[attribute] or "" for _, held in self.elements if attribute in held]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(example_summary()))


def test_the_answer_comes_first_and_the_account_closes(page: Page) -> None:
    kept, dropped = 4_874_668, 5_125_332

    said = next(words for words in page.words if words.startswith("The account closes"))

    assert said == (
        f"The account closes: {count(10_000_000)} rows in = {count(kept)} kept + {count(dropped)} "
        "dropped for 9 reasons."
    )


def test_every_reason_stands_on_the_page_with_its_rows(page: Page) -> None:
    rows = {row[0]: row[1:3] for row in page.rows if row[0] in DROPPED}

    assert rows == {reason: [count(n), share(n, 10_000_000)] for reason, n in DROPPED.items()}


def test_every_rule_stands_on_the_page_with_its_numbers(page: Page) -> None:
    rules = example_summary()["rules"]
    rows = {row[0]: row[2:] for row in page.rows if len(row) == 7 and row[0] in RULES}

    assert rows.pop("nsfw") == [NONE] * 5
    assert rows == {
        rule["name"]: [
            count(rule["first"]),
            share(rule["first"], 10_000_000),
            count(rule["broken"]),
            count(rule["only"]) + share(rule["only"], rule["broken"]),
            count(rule["unjudged"]),
        ]
        for rule in rules[:-1]
    }


def test_the_funnel_goes_from_the_rows_in_to_the_rows_kept(page: Page) -> None:
    steps = json.loads(page.settings)["charts"]["funnel"]["data"]["values"]

    assert [steps[0]["left"], steps[-1]["left"]] == [10_000_000, 4_874_668]
    assert [step["before"] for step in steps[1:-1]] == [step["left"] for step in steps[:-2]]


def test_each_chart_is_drawn_once_and_has_a_label(page: Page) -> None:
    assert sorted(page.having("data-chart")) == sorted(json.loads(page.settings)["charts"])
    assert all(
        held["aria-label"] and held["role"] == "img"
        for _, held in page.elements
        if "data-chart" in held
    )


def test_a_limit_is_a_line_or_lies_outside(page: Page) -> None:
    layers = json.loads(page.settings)["charts"]["histogram token_count"]["layer"]

    lines = {layer["data"]["values"][0]["label"] for layer in layers if "data" in layer}

    assert lines == {"≥ 3", "≤ 20"}
    assert f"limit ≤ {count(1000)} lies outside" in "".join(page.words)


def test_an_example_says_what_decided_and_how_to_ask_for_more(page: Page) -> None:
    uid = example_summary()["examples"]["language.other"][0]["uid"]
    words = "".join(page.words)

    assert "2 tokens; needs 3 to 20" in words
    assert f"python -m pipelines explain {uid} --from OUT" in words


def test_a_caption_is_text_whatever_it_says(page: Page) -> None:
    names = [tag for tag, _ in page.elements]

    assert names.count("script") == 3
    assert [held for tag, held in page.elements if tag == "img" and "onerror" in held] == []
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800]", "".join(page.words)
    )
    for caption in CAPTIONS[:-1]:
        assert inert(caption or "", 300) in page.words


def test_a_caption_cannot_turn_the_text_around_it(page: Page) -> None:
    places = [i for i, (_, held) in enumerate(page.elements) if held.get("class") == "caption"]

    inside = {page.elements[i + 1][0] for i in places}

    assert inside == {"bdi", "em"}


def test_the_page_forbids_requests_and_foreign_scripts(page: Page) -> None:
    policy = next(text for text in page.having("content") if "default-src" in text)

    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert re.findall(r"script-src(( 'sha256-[\w+/=]+'){2})$", policy) != []


@pytest.mark.parametrize("part", [None, *example_summary()])
def test_a_missing_part_is_a_sentence(part: str | None) -> None:
    summary = example_summary() if part else {}
    if part in {"rows_in", "kept", "dropped"}:
        summary = dict.fromkeys(summary)
    elif part:
        summary[part] = None

    words = Page(render(summary)).words

    assert "Provenance" in words


def test_an_empty_run_says_so() -> None:
    words = " ".join(Page(render({"rows_in": 0, "kept": 0, "dropped": {}})).words)

    for sentence in ("The input has no rows", "No row was dropped", "No shard was read"):
        assert sentence in words


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kept": 4_874_667}, "got 10000000 != 4874667 \\+ 5125332"),
        ({"rules": [example_rule("a", "b", [("<", 1, "c", 5_125_333)])]}, "got 5125333 > 5125332"),
    ],
)
def test_an_account_that_does_not_close_is_an_error(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        render(example_summary() | change)


def test_two_hundred_thumbnails_fit_into_five_megabytes() -> None:
    noise = "data:image/webp;base64," + b64encode(random.Random(0).randbytes(6_000)).decode()
    pairs = [
        example_pair("kept", i % 9, random.Random(i)) | {"thumbnail": noise} for i in range(12)
    ]

    html = render(example_summary() | {"examples": {f"reason {i}": pairs for i in range(17)}})

    assert html.count(noise) == 17 * 11
    assert len(html.encode()) < MAX_BYTES


def test_a_page_of_the_largest_parts_can_still_be_mailed() -> None:
    chance, hidden = random.Random(0), "\u202e" * 400
    noise = "data:image/jpeg;base64," + b64encode(chance.randbytes(6_000)).decode()
    texts = {"caption": hidden, "url": hidden, "language": hidden, "pdq_nearest": hidden}
    pair = example_pair("language.other", 8, chance) | texts | {"thumbnail": noise}
    pair["beside"] = {"thumbnail": noise, "name": "test image"}
    run = example_summary()
    many = {
        "examples": {f"reason {i}": [pair] * 12 for i in range(30)},
        "shards": [example_shard(i, chance) for i in range(10_500)],
        "hosts": {"distinct": 10**6, "top": [[hidden + str(i), 2, 1] for i in range(50)]},
        "what_if": run["what_if"] | {"data": b64encode(chance.randbytes(500_000)).decode()},
    }

    html = render(run | many)

    assert len(html.encode()) < MAX_BYTES
    assert 30 <= html.count('<figure class="card">') < 200


def test_of_many_shards_the_outliers_come_first() -> None:
    shards = [example_shard(i, random.Random(i)) for i in range(10_500)]

    page = Page(render(example_summary() | {"shards": shards}))

    listed = [row[0] for row in page.rows if re.match(r"\d{5}(outlier)?$", row[0])]
    assert len(listed) == 1000
    assert [name.endswith("outlier") for name in listed] == [True] * 117 + [False] * 883


def test_a_report_that_fails_leaves_the_last_one(tmp_path: Path) -> None:
    path = write_report({"title": "first"}, tmp_path / "report")
    first = path.read_text()

    with pytest.raises(ValueError, match="rows_in must equal"):
        write_report({"title": "second", "rows_in": 1}, tmp_path / "report")

    assert path.read_text() == first
    assert [*path.parent.iterdir()] == [tmp_path / "report" / "index.html"]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (count(1_234_567), "1\u202f234\u202f567"),
        (count(0.25), "0.25"),
        (count(None), NONE),
        (share(0, 7), "0%"),
        (share(1, 10**6), "<0.01%"),
        (share(1, 300), "0.33%"),
        (share(1, 3), "33.3%"),
        (share(10**6 - 1, 10**6), ">99.9%"),
        (share(7, 7), "100%"),
        (share(0, 0), NONE),
        (needs({"op": ">=", "value": 1000}), "≥ 1\u202f000"),
        (needs({"op": "in", "value": ["en", "de"]}), "one of en, de"),
        (needs({"op": "is null", "value": None}), "is null"),
        (inert("a\u202eb\tc\nd\x00\u200de\xa0", 99), "a⟨U+202E⟩b⇥c↵d⟨U+0000⟩\u200de\xa0"),
        (inert("abcd", 3), "abc…"),
    ],
)
def test_numbers_and_texts_are_shown_as(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_draws_every_chart_in_silence_and_asks_nobody(tmp_path: Path) -> None:
    path = write_report(example_summary(), tmp_path)

    shown = shown_in_silence(path, tmp_path)

    num_charts = len(json.loads(Page(shown).settings)["charts"])
    assert shown.count('<svg xmlns="http://www.w3.org/2000/svg"') == num_charts
