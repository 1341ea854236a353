"""Data in an object store: the batches of local data, and each byte no oftener than it must."""

from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from pipelines.commands import main as pipelines  # noqa: E402
from recaption import copies  # noqa: E402
from recaption.spans import Spans  # noqa: E402
from recaption.store_clients import StoreError  # noqa: E402
from recaption.stores import StorePath  # noqa: E402
from tests.shards import photo, write_crawl, write_parquet  # noqa: E402
from tests.train.corpora import WRITERS, settings  # noqa: E402
from tests.train.loading import assert_same, loader, taken  # noqa: E402
from tests.train.runs import RECIPE, losses, validations  # noqa: E402
from train.__main__ import main  # noqa: E402
from train.index import Data, open_data  # noqa: E402
from train.mixing import Captions  # noqa: E402
from train.settings import read_settings  # noqa: E402
from train.validation import read_pairs  # noqa: E402

SHARDS = 12
"""More than the copies that a process keeps."""
ROWS = 10
FOOTER = 1 << 16
"""Of a parquet at most: so much of its end is asked for first."""


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the objects that came over whole."""
    names, fetch = list[str](), copies.fetch

    def count(path: StorePath, to: Path) -> None:
        names.append(path.name)
        fetch(path, to)

    monkeypatch.setattr(copies, "fetch", count)
    return names


@pytest.fixture
def spanned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of the parts of objects that came over."""
    sizes, read = list[int](), Spans.read

    def count(self: Spans, size: int = -1) -> bytes:
        content = read(self, size)
        sizes.append(len(content))
        return content

    monkeypatch.setattr(Spans, "read", count)
    return sizes


def opened(source: Path, index: Path, held_out_share: float = 0.0) -> Data:
    return open_data([source], Captions(), index, held_out_share, workers=1)


def both(kind: str, store: StorePath, folder: Path) -> tuple[Data, Data]:
    """Return the same data, in a folder and in a store."""
    here = WRITERS[kind](folder / "data", (ROWS,) * SHARDS)
    (store / folder.name).put_tree(here)
    return opened(here, folder / "here"), opened(store / folder.name, folder / "there")


@pytest.mark.parametrize("kind", WRITERS)
def test_batches_are_those_of_local_data(kind: str, store: StorePath, tmp_path: Path) -> None:
    here, there = both(kind, store, tmp_path)

    assert here.digest == there.digest
    assert_same(taken(loader(there), 45), taken(loader(here), 45))


@pytest.mark.parametrize("mixed", [2, SHARDS])
def test_a_tar_comes_over_once_in_an_epoch_however_many_are_mixed(
    mixed: int, store: StorePath, tmp_path: Path, fetched: list[str]
) -> None:
    data = both("tar", store, tmp_path)[1]
    fetched.clear()
    told = {"settings": settings(shuffle_shards=mixed, prefetch=0), "batch": 5, "ranks": 2}
    ranks = [iter(loader(data, rank=rank, **told)) for rank in range(2)]
    with closing(ranks[0]), closing(ranks[1]):  # type: ignore[type-var]
        for _ in islice(zip(*ranks, strict=True), SHARDS * ROWS // 10):
            pass

    assert sorted(fetched) == sorted(unit.shard.path.name for unit in data.units)
    assert not list((copies.root() / "lent").glob("*.copy"))


def test_a_row_group_comes_over_without_the_others(
    store: StorePath, tmp_path: Path, fetched: list[str], spanned: list[int]
) -> None:
    for shard in range(2):
        photos = [photo(32 * shard + row, 200, 200, "PNG") for row in range(32)]
        columns = {"jpg": photos, "caption": [f"picture {row}" for row in range(32)]}
        write_parquet(tmp_path / "data" / f"{shard}.parquet", columns, 8)
    (store / tmp_path.name).put_tree(tmp_path / "data")
    size = sum(path.stat().st_size for path in (tmp_path / "data").iterdir())

    data = opened(store / tmp_path.name, tmp_path / "index")
    listed = sum(spanned)
    taken(loader(data, batch=8, settings=settings(shuffle_shards=2, prefetch=0)), 8)

    assert not fetched
    assert listed < 4 * FOOTER
    assert size - 8 * FOOTER < sum(spanned) - listed < size + 8 * FOOTER
    assert size > 30 * FOOTER


def test_held_out_pairs_come_over_alone(
    store: StorePath, tmp_path: Path, fetched: list[str]
) -> None:
    here = WRITERS["tar"](tmp_path / "data", (ROWS,) * SHARDS)
    (store / tmp_path.name).put_tree(here)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    chosen, found = read_settings(str(tmp_path / "tiny.toml")), []
    for source in (here, store / tmp_path.name):
        data = opened(source, tmp_path / source.parent.name, 0.3).part(held_out=True)
        fetched.clear()
        found.append([(pixels.tobytes(), text) for pixels, text in read_pairs(chosen, data)])

    assert len(found[0]) > 15
    assert found[0] == found[1]
    assert not fetched


# ------------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def home(store: StorePath, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recipe and `out`, a filter run's output, which is also in a store."""
    home = tmp_path_factory.mktemp("home")
    (home / "tiny.toml").write_text(RECIPE)
    write_crawl(home / "crawl", shards=4, rows=30, images=20, seed=5)
    (store / "crawl").put_tree(home / "crawl")
    for place in (home, store):
        paths = ["--input", str(place / "crawl"), "--output", str(place / "out")]
        assert pipelines(["filter", *paths, "--workers", "1"]) == 0
    return home


def train(home: Path, data: Path, out: str) -> int:
    where = ["--data", str(data), "--out", str(home / out)]
    return main(["run", str(home / "tiny.toml"), *where, "--set", "vocabulary.words=tables"])


def test_a_run_learns_what_it_does_from_local_data_and_goes_on_when_the_store_is_back(
    home: Path,
    store: StorePath,
    fetched: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(home, home / "out", "here") == 0
    assert train(home, store / "out", "there") == 0
    assert losses(home / "there") == losses(home / "here")
    assert validations(home / "there") == validations(home / "here")
    fetch, tars = copies.fetch, [name for name in fetched if name.endswith(".tar")]

    def refuse(path: StorePath, to: Path) -> None:
        if len(fetched) == 2:
            raise StoreError(f"{path} must be within reach")
        fetch(path, to)

    with monkeypatch.context() as patch:
        fetched.clear()
        patch.setattr(copies, "fetch", refuse)
        assert train(home, store / "out", "stopped") == 2
    assert capsys.readouterr().err.endswith("must be within reach\n")
    assert train(home, store / "out", "stopped") == 0
    assert losses(home / "stopped") == losses(home / "here")
    assert tars
