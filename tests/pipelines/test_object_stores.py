"""Every job does in an object store what it does in a folder."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.__main__ import main
from pipelines.doctor import diagnose
from pipelines.inputs import find_files, find_shards
from pipelines.plan import plan_filter, read_recipe
from pipelines.run import run_filter
from pipelines.store_lock import SILENT_S, held
from recaption.files import replacing, write_text
from recaption.manifest import ManifestError
from recaption.stores import StorePath, to_path
from tests import object_store
from tests.outputs import files_of
from tests.shards import picture, write_parquet, write_shard

ROOT = Path(__file__).parents[2]
WORDS = ("red", "blue", "shoe", "dog", "cat", "photo", "of", "grass", "a", "the")
CHANGES = ["--set", "materialise=true", "--set", "rules.ngram_rank.max_inclusive=500"]
TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorePath]:
    """Return a bucket with the crawl in it; the process's own files are elsewhere than others'."""
    scratch = tmp_path_factory.mktemp("scratch")
    with object_store.serving("bucket") as url, pytest.MonkeyPatch.context() as patch:
        for name, value in object_store.environment(url, scratch).items():
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", str(scratch))
        yield StorePath("s3://bucket")


@pytest.fixture(scope="module")
def crawl(store: StorePath, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of shards, which is in the store as well; not to be changed."""
    folder, chance = tmp_path_factory.mktemp("source") / "crawl", random.Random(5)
    images = [picture(201 + n, 300) for n in range(20)]
    for shard in range(3):
        pairs = [
            (f"{shard:05d}{row:04d}", chance.choice(images), " ".join(chance.choices(WORDS, k=4)))
            for row in range(40)
        ]
        write_shard(folder / f"{shard:05d}", pairs)
    (store / "crawl").put_tree(folder)
    return folder


@pytest.fixture(scope="module")
def here(crawl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a run from folder to folder; not to be changed."""
    output = tmp_path_factory.mktemp("here") / "out"
    run_job("filter", "--input", crawl, "--output", output, *CHANGES, "--workers", "1")
    return output


@pytest.fixture(scope="module")
def there(store: StorePath, crawl: Path) -> StorePath:
    """Return that of the same run from store to store; not to be changed."""
    del crawl
    output = store / "out"
    paths = ("--input", store / "crawl", "--output", output)
    run_job("filter", *paths, *CHANGES, "--workers", "2")
    return output


def run_job(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def contents(output: Path, **named: Path) -> dict[str, bytes]:
    """Return a run's files by their paths, with names for the folders that they tell of."""
    files = output.below() if isinstance(output, StorePath) else output.rglob("*")
    found = {
        path.relative_to(output).as_posix(): path.read_bytes() for path in files if path.is_file()
    }
    del found["run.json"]  # it has the seconds
    for name, folder in named.items():
        found = {at: text.replace(str(folder).encode(), name.encode()) for at, text in found.items()}
    return found


def test_a_run_from_store_to_store_leaves_the_bytes_of_one_from_folder_to_folder(
    crawl: Path, store: StorePath, here: Path, there: StorePath
) -> None:
    expected = contents(here, crawl=crawl, out=here)

    assert len(expected) > 20
    assert contents(there, crawl=store / "crawl", out=there) == expected
    assert not list(Path(tempfile.gettempdir()).glob("altmill-*/work/*/*"))


def test_workers_on_other_machines_meet_in_the_store(
    crawl: Path, store: StorePath, there: StorePath
) -> None:
    del crawl
    source, output = store / "crawl", store / "native"
    recipe = read_recipe("align", [change for change in CHANGES if change != "--set"])
    plan = plan_filter(str(source), output, recipe, workers=2, carrier="native")

    run_filter(plan, ["--direct_runner_bundle_repeat=1"])

    found = contents(output, crawl=source, out=output)
    assert found == contents(there, crawl=source, out=there)
