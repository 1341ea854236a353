"""Hosts of URLs, counted over the whole corpus."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import hosts
from pipelines.commands import main
from pipelines.hosts import add_hosts, send_hosts
from pipelines.plan import restore_plan
from pipelines.statistics import read_statistics
from tests.outputs import rows_of

URLS = [
    "http://example.com/a/b.jpg",
    "https://EXAMPLE.com:8080/a",
    "https://user:secret@example.com?x=/y",
    "https://example.com.#f",
    "http://[2001:db8::1]:80/a",
    "//example.com/no-scheme",
    "data:image/png;base64,AA//BB",
    "https:///no-host",
    "http://" + "x" * 254 + "/a",
    "http://\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444/a",
    "",
    None,
]


def sent_of(run: Any, urls: list[str | None], kept: list[bool]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}

    def send(channel: str, batch: pa.RecordBatch, partitions: np.ndarray[Any, Any]) -> None:
        assert channel == "hosts"
        assert len(partitions) == len(batch)
        found.update({row["host"]: (row["rows"], row["kept"]) for row in batch.to_pylist()})

    send_hosts(run, pa.array(urls, pa.string()), pa.array(kept), send)
    return found


def test_a_host_is_what_the_standard_library_says(filtered: Path) -> None:
    run = restore_plan(filtered).run

    found = sent_of(run, URLS, [True, False] * 6)

    assert found == {
        "example.com": (4, 2),
        "[2001:db8::1]": (1, 1),
        "\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444": (1, 0),
    }
    for url in URLS[:5]:
        name = urlsplit(url).hostname
        assert name
        assert {name.rstrip("."), f"[{name}]"} & {*found}


def test_the_hosts_of_a_run_are_those_of_its_rows(filtered: Path) -> None:
    expected: dict[str, list[int]] = {}
    rows = zip(rows_of(filtered, "columns"), rows_of(filtered, "decisions"), strict=True)
    for row, decision in rows:
        counts = expected.setdefault(urlsplit(row["url"]).hostname or "", [0, 0])
        counts[0] += 1
        counts[1] += decision["reason"] is None

    told = read_statistics(filtered)["hosts"]

    assert told == {"distinct": len(expected), "top": expected}


def test_of_many_hosts_the_largest_stay_whatever_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "MOST", 2)
    parts = [
        {"distinct": 2, "top": {"b": [5, 1], "c": [4, 0]}},
        {"distinct": 9, "top": {"a": [5, 5], "d": [9, 0]}},
    ]

    total = add_hosts(*parts)

    assert total == add_hosts(*parts[::-1]) == {"distinct": 11, "top": {"d": [9, 0], "a": [5, 5]}}


def test_partitions_keep_their_largest_hosts(tmp_path: Path) -> None:
    urls = [f"http://host-{number % 300}.example/a{number}" for number in range(900)]
    urls += ["http://host-7.example/again"] * 3
    table = pa.table({"url": urls, "caption": ["a dog on the grass"] * len(urls)})
    (tmp_path / "in").mkdir()
    for shard in (0, 1):
        pq.write_table(table.slice(shard * 450, 453), tmp_path / "in" / f"{shard}.parquet")
    arguments = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]

    assert main(["filter", *arguments, "--workers", "1"]) == 0

    told = read_statistics(tmp_path / "out")["hosts"]
    assert told["distinct"] == 300
    assert len(told["top"]) == hosts.MOST
    assert told["top"]["host-7.example"][0] > 3
