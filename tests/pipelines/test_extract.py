"""From a crawl to pairs: each once, all is counted, and the same bytes however it runs."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines import crawl, extract
from pipelines.commands import main
from pipelines.crawl import plan_extract
from pipelines.run import run_extract
from tests.archives import HTML_TYPE, envelope, page, write_warc, write_wat
from tests.outputs import files_of, reasons_of

SITE = "https://a.example"
TYPED = HTML_TYPE | {"Content-Language": "en"}
REPEAT = "--direct_runner_bundle_repeat=1"

Tag = tuple[str, str]


def tags() -> Iterator[tuple[str, list[Tag]]]:
    """Yield pages, by URL, with images that are shared within and across them."""
    for number in range(60):
        own = (f"/i/{number}.jpg", f"a photo of the number {number}")
        shared = (f"https://c.example/{number % 7}.jpg", f"a shared picture {number % 5}")
        bad = [("x.jpg", ""), ("javascript:x", "bad")]
        yield f"{SITE}/{number}.html", [own, shared, own, ("/short.jpg", "short"), *bad]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a crawl of archives and HTML files."""
    folder = tmp_path_factory.mktemp("crawl")
    pages = [(url, page(*images)) for url, images in tags()]
    write_warc(folder / "a.warc.gz", [(url, TYPED, body) for url, body in pages[:20]])
    gone = TYPED | {":status": "404 Not Found"}
    responses = [(url, TYPED, body) for url, body in pages[20:30]]
    write_warc(folder / "b" / "a.warc", [*responses, (SITE, gone, b""), (SITE, {}, b"\xff\xd8")])
    links = [
        (url, [{"path": "IMG@/src", "url": src, "alt": alt} for src, alt in images])
        for url, images in list(tags())[30:45]
    ]
    wat = [(url, envelope(url, {"Links": imgs, "Head": {"Title": "t"}})) for url, imgs in links]
    write_wat(folder / "c.warc.wat.gz", [*wat, (SITE, b"{")])
    for url, body in pages[45:]:
        (folder / url.rpartition("/")[2]).write_bytes(body)
    (folder / "notes.txt").write_text("not of the crawl")
    return folder


def command(source: Path, output: Path, *options: str) -> list[str]:
    base = ("--base-url", SITE, "--workers", "1")
    return ["extract", "--input", str(source), "--out", str(output), *base, *options]


def run(source: Path, output: Path, *options: str, **plan: Any) -> Path:
    planned = plan_extract(str(source), output, **{"base_url": SITE, "workers": 1} | plan)
    run_extract(planned, options)
    return output


@pytest.fixture(scope="module")
def extracted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(source, tmp_path_factory.mktemp("extracted") / "out")


def rows(output: Path) -> list[dict[str, Any]]:
    tables = map(pq.read_table, sorted(output.glob("*.parquet")))
    return [row for table in tables for row in table.to_pylist()]


def manifest(output: Path) -> dict[str, Any]:
    return json.loads((output / "manifest.json").read_text())


def expected() -> Counter[Tag]:
    """Return how often each pair occurs, by plain means."""
    pairs = [(src, alt) for _, images in tags() for src, alt in images if alt and alt != "bad"]
    return Counter((SITE + src if src.startswith("/") else src, alt) for src, alt in pairs)


def test_each_pair_is_there_once_and_says_how_often_it_occurs(extracted: Path) -> None:
    found = rows(extracted)

    pairs = {(row["url"], row["text"]): row["occurrences"] for row in found}
    assert pairs == expected()
    assert len(found) == len(pairs)


def test_uids_are_those_of_the_filter_job_and_in_order(extracted: Path) -> None:
    found = rows(extracted)

    for row in found:
        digest = hashlib.sha256(f"{row['url']}\0{row['text']}".encode()).hexdigest()
        assert row["uid"] == digest[:32]
    assert all(a["uid"] < b["uid"] for a, b in pairwise(found))


def test_of_equal_pairs_the_first_of_the_crawl_stays(extracted: Path) -> None:
    first: dict[Tag, str] = {}
    for url, images in tags():
        for src, alt in images:
            first.setdefault((SITE + src if src.startswith("/") else src, alt), url)

    for row in rows(extracted):
        assert row["page_url"] == first[row["url"], row["text"]]
        assert row["page_title"] == "t"


def test_every_page_and_every_image_is_in_the_account(extracted: Path) -> None:
    account = manifest(extracted)

    kept, occurred = len(expected()), expected().total()
    assert account["pages_in"] == 63
    assert account["pages_not_read"] == {"not_html": 1, "not_json": 1, "status_not_2xx": 1}
    assert account["images_in"] == 6 * 60
    assert account["kept"] == kept
    assert account["dropped"] == {
        "alt_empty": 60,
        "url_javascript": 60,
        "duplicate": occurred - kept,
    }
    assert [(part["part"], part["pages"]) for part in account["parts"]] == [
        ("a.warc.gz", 20),
        ("b/a.warc", 12),
        ("c.warc.wat.gz", 16),
        ("pages-00000", 15),
    ]
    assert account["encodings"] == {"utf-8 told by bytes": 45}
    shown = (extracted / "report" / "index.html").read_text()
    for kind, number in (account["pages_not_read"] | account["dropped"]).items():
        assert f'<th scope="row" class="mono">{kind}</th><td class="n">{number}</td>' in shown
    assert "http" not in shown.replace("http-equiv", "")


@pytest.mark.parametrize("options", [("--workers", "2"), ("--", "--runner=FnApiRunner")], ids=str)
def test_the_command_line_gives_the_same_bytes(
    source: Path, extracted: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert main(command(source, tmp_path / "out", *options)) == 0

    assert files_of(tmp_path / "out") == files_of(extracted)


@pytest.mark.parametrize("carrier", ["files", "native"])
def test_partitions_batches_and_repeated_bundles_change_no_row(
    source: Path, extracted: Path, tmp_path: Path, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawl, "_PARTITION_BYTES", 2000)
    monkeypatch.setattr(extract, "_SENT_AT_ONCE", 7)

    output = run(source, tmp_path / "out", REPEAT, carrier=carrier)

    assert len(list(output.glob("*.parquet"))) > 1
    assert rows(output) == rows(extracted)


def test_a_run_that_was_stopped_goes_on(
    source: Path, extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, begun = extract.read_archive, []

    def note(path: Path) -> Any:
        begun.append(path.name)
        return read(path)

    def stop_at_the_last(path: Path) -> Any:
        if path.name == "c.warc.wat.gz":
            raise KeyboardInterrupt
        return note(path)

    monkeypatch.setattr(extract, "read_archive", stop_at_the_last)
    with pytest.raises(RuntimeError, match="KeyboardInterrupt"):
        run(source, tmp_path / "out")
    monkeypatch.setattr(extract, "read_archive", note)

    run(source, tmp_path / "out")

    assert begun == ["a.warc.gz", "a.warc", "c.warc.wat.gz"]
    assert files_of(tmp_path / "out") == files_of(extracted)


def test_a_complete_run_is_not_made_again(
    source: Path, extracted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "read_archive", None)

    run(source, extracted)


def test_metadata_rules_leave_a_list_to_download(
    extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ["--input", str(extracted), "--output", str(tmp_path / "out"), "--workers", "1"]
    assert main(["filter", *paths, "--set", "materialise=true"]) == 0

    kept = [row["caption"] for row in rows(tmp_path / "out" / "download")]
    assert {*reasons_of(tmp_path / "out")} >= {"kept"}
    assert len(kept) == reasons_of(tmp_path / "out")["kept"]
    assert kept
    assert {row["text"] for row in rows(extracted)} == {*kept, "short"}
    assert json.loads((tmp_path / "out" / "download" / "sizes.json").read_text()) == {
        "00000.parquet": len(kept)
    }
    before = files_of(tmp_path / "out")
    capsys.readouterr()
    assert main(["materialise", "--from", str(tmp_path / "out"), "--workers", "1"]) == 0
    assert capsys.readouterr().out == (
        f"{len(kept)} pairs in 1 shards in {tmp_path / 'out' / 'download'}\n"
    )
    assert files_of(tmp_path / "out") == before


def test_without_a_base_url_images_of_html_files_lead_nowhere(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["extract", "--input", str(source / "4?.html"), "--out", str(tmp_path / "out")]

    assert main([*arguments, "--workers", "1"]) == 0

    assert capsys.readouterr().out.startswith(
        """\
           5          pages
          30          images in the others
          -5   16.7%  image.alt_empty
          -5   16.7%  image.url_javascript
         -15   50.0%  image.url_without_base
           5   16.7%  kept
"""
    )


def test_a_damaged_archive_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warc = write_warc(tmp_path / "in" / "a.warc.gz", [(SITE, TYPED, page(("x", "a b")))] * 4)
    warc.write_bytes(warc.read_bytes()[:-101])
    (tmp_path / "in" / "b.warc").write_bytes(b"none")

    assert main(command(tmp_path / "in", tmp_path / "out")) == 0

    said = capsys.readouterr().out
    assert "2 damaged inputs, read as far as they go: manifest.json names them\n" in said
    shown = (tmp_path / "out" / "report" / "index.html").read_text()
    assert shown.count('<li class="warning"><bdi>') == 2
    assert said.endswith(f"report: {tmp_path / 'out' / 'report' / 'index.html'}\n")
    assert [bool(part["damage"]) for part in manifest(tmp_path / "out")["parts"]] == [True, True]
    assert rows(tmp_path / "out")[0]["text"] == "a b"


def test_a_crawl_without_an_image_leaves_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.html").write_text("<p>nothing")

    assert main(command(tmp_path / "in", tmp_path / "out")) == 0

    assert rows(tmp_path / "out") == []
    assert manifest(tmp_path / "out")["kept"] == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--input", "none"], "input none must exist, got nothing there; check the path"),
        (
            ["--input", "empty"],
            "input empty must hold .warc, .wat or .html files (or .gz of them), got none; check "
            "the path",
        ),
        (
            ["--input", "in", "--base-url", "a.example/x"],
            "--base-url must be an absolute http or https URL, got 'a.example/x'; write it in full",
        ),
        (
            ["--input", "in", "--base-url", "http://["],
            "--base-url must be an absolute http or https URL, got 'http://['; write it in full",
        ),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    options: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.html", "empty/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("<img>")

    assert main(["extract", *options, "--out", "out"]) == 2

    assert capsys.readouterr().err == f"altmill: {sentence}\n"
    assert not (tmp_path / "out").exists()


def test_another_crawl_does_not_replace_the_first(
    source: Path, extracted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(source / "b", tmp_path / "out")
    before = files_of(tmp_path / "out")

    assert main(command(source, tmp_path / "out")) == 2
    assert "must be empty or hold the same run" in capsys.readouterr().err
    assert files_of(tmp_path / "out") == before

    assert main(command(source, tmp_path / "out", "--overwrite")) == 0
    assert files_of(tmp_path / "out") == files_of(extracted)
