"""From a crawl to shards that models learn from, by the commands that the README shows."""

import json
from pathlib import Path

import pytest

from pipelines.commands import main
from tests.archives import HTML_TYPE, page, write_warc
from tests.outputs import manifest_of, rows_of
from tests.pipelines import downloads
from tests.pipelines.web import sends, serving
from tests.shards import photo

pytestmark = pytest.mark.usefixtures("guarded")

CAPTIONS = [f"a photograph of the old harbour number {number}" for number in range(6)]


def job(*words: object) -> int:
    return main([str(word) for word in words])


def test_a_crawl_becomes_shards_and_condemned_images_are_never_asked_for(tmp_path: Path) -> None:
    images = {f"/{number}.jpg": sends(photo(number)) for number in range(len(CAPTIONS))}
    small = {"/small.jpg": sends(photo(9, 90, 60))}
    with serving(images | small) as web:
        pages = [
            (web.url(f"/{number}.html"), HTML_TYPE, page((f"/{number}.jpg", caption)))
            for number, caption in enumerate(CAPTIONS)
        ]
        others = page(("/condemned.jpg", "logo"), ("/small.jpg", "a small picture of the harbour"))
        pages.append((web.url("/others.html"), HTML_TYPE, others))
        write_warc(tmp_path / "crawl" / "a.warc.gz", pages)
        pairs, worth, shards = tmp_path / "pairs", tmp_path / "worth", tmp_path / "shards"
        alone = ("--workers", "1")

        assert job("extract", "--input", tmp_path / "crawl", "--out", pairs, *alone) == 0
        rule = ("--set", "materialise=true", *alone)
        assert job("filter", "--input", pairs, "--output", worth, *rule) == 0
        asked = ("download", "--input", worth / "download", "--output", shards)
        assert job(*asked, *downloads.LOOPBACK, *alone) == 0
        assert job("filter", "--input", shards, "--output", tmp_path / "out", *alone) == 0

    assert sorted(web.asked) == sorted([*images, *small])
    assert manifest_of(worth)["dropped"] == {"token_count.too_short": 1}
    assert manifest_of(tmp_path / "out")["dropped"] == {"shorter_side.too_small": 1}
    kept = [row for row in rows_of(tmp_path / "out", "decisions") if row["reason"] is None]
    found = {row["uid"]: row["text"] for row in downloads.rows_of(pairs)}
    assert sorted(found[row["uid"]] for row in kept) == CAPTIONS
    files = downloads.members_of(shards)
    assert {json.loads(files[name])["caption"] for name in files if name.endswith(".json")} == {
        *CAPTIONS,
        "a small picture of the harbour",
    }
