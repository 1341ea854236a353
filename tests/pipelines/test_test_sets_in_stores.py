"""Test sets, their indexes and audits in an object store, and samples: as in a folder."""

from pathlib import Path

import pytest

from pipelines.commands import main
from recaption import copies
from recaption.files import read_json
from recaption.store_clients import StoreError
from recaption.stores import StorePath
from tests.outputs import files_of
from tests.shards import photo, write_shard

RECIPE = """
name = "near"
test_sets.indexes = ["{index}"]
rules = {{pdq_distance = {{min_exclusive = 31}}}}
"""


def small(seed: int) -> bytes:
    """Return a picture that takes little time."""
    return photo(seed, 160, 120, "PNG")


def run_job(*arguments: object) -> None:
    assert main([str(argument) for argument in (*arguments, "--workers", "1")]) == 0


def work(place: Path) -> None:
    """Index a test set, look for it in a corpus, and audit that."""
    run_job("index", "--images", place / "test", "--out", place / "index", "--name", "test")
    recipe = place / "near.toml"
    run_job("filter", "--input", place / "corpus", "--output", place / "out", "--recipe", recipe)
    run_job("audit", "--from", place / "out", "--sample", 2, "--corpus-sample", 4)


@pytest.fixture(scope="module")
def home(store: StorePath, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all of it, which is in a store as well; not to be changed."""
    home = tmp_path_factory.mktemp("home")
    (home / "test").mkdir()
    for seed in range(5):
        (home / "test" / f"{seed}.png").write_bytes(small(seed))
    pairs = [(f"{n:03d}", small(n), f"a photo, number {n}") for n in range(2, 12)]
    for shard in range(2):
        write_shard(home / "corpus" / f"{shard:05d}", pairs[shard::2])
    for name in ("test", "corpus"):
        (store / name).put_tree(home / name)
    for place in (home, store):
        (home / "near.toml").write_text(RECIPE.format(index=place / "index"))
        if place is store:
            (store / "near.toml").put(home / "near.toml")
        work(place)
    return home


def test_indexes_are_looked_in_and_audited_as_in_a_folder(home: Path, store: StorePath) -> None:
    ours, theirs = (read_json(place / "out" / "audit" / "audit.json") for place in (store, home))
    found = [files_of(place / "out" / "decisions") for place in (store, home)]

    assert found[0] == found[1]
    assert read_json(home / "out" / "manifest.json")["dropped"] == {"pdq_distance.test_image": 3}
    assert ours["recall"] == theirs["recall"]
    assert ours["verdict"] == theirs["verdict"]
    for page in ("audit", "report"):
        pages = [(place / "out" / page / "index.html").read_bytes() for place in (store, home)]
        assert pages[0].count(b"data:image/") == pages[1].count(b"data:image/") > 0


def test_an_index_is_the_same_bytes_and_comes_over_once(
    home: Path, store: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job("index", "--images", store / "test", "--out", home / "same", "--name", "test")
    fetched, fetch = list[str](), copies.fetch
    monkeypatch.setattr(copies, "fetch", lambda of, to: (fetched.append(of.name), fetch(of, to)))

    run_job("index", "--merge", store / "index", "--out", home / "merged")
    run_job("index", "--merge", store / "index", "--out", store / "merged")

    assert files_of(store / "index") == files_of(home / "same")
    assert files_of(store / "merged") == files_of(home / "merged")
    assert not fetched  # the audit has looked in it


def test_what_is_no_index_is_said(store: StorePath, capsys: pytest.CaptureFixture[str]) -> None:
    index = f'test_sets.indexes=["{store}/nothing"]'
    paths = ("--input", f"{store}/corpus", "--output", f"{store}/x")

    assert main(["filter", *paths, "--set", index]) == 2

    said = capsys.readouterr().err
    assert said.startswith(f"altmill: index {store}/nothing must be a folder that the job index")


def test_a_sample_that_the_store_refused_is_not_taken_for_one(
    home: Path, store: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = StorePath.put

    def refuse(self: StorePath, file: Path) -> None:
        if self.suffix == ".tar":
            raise StoreError("no")
        put(self, file)

    sample = ("sample", "--rows", "30", "--output")
    with monkeypatch.context() as patch:
        patch.setattr(StorePath, "put", refuse)
        assert main([*sample, f"{store}/sample"]) == 2
    assert not (store / "sample" / "sample.json").exists()
    for output in (store / "other", store / "other", home / "other"):
        assert main([*sample, str(output)]) == 0

    assert files_of(store / "other") == files_of(home / "other")
