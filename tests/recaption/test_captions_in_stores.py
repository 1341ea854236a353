"""What is written of captions in an object store is what is written in a folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.commands import main as pipelines
from recaption import parts
from recaption.choice import choose_all
from recaption.choosing import Choose
from recaption.files import remove
from recaption.filter_run import FilterRun
from recaption.shards import generate_shard, score_shard
from recaption.store_clients import StoreError
from recaption.stores import StorePath
from tests.captioners import Echo, Lengths
from tests.outputs import files_of
from tests.recaption.runs import filter_both, prepare, verb

CHOICE = Choose(min_itm_inclusive=0.05)
OFTEN = ("--set", "checkpoint_steps=1", "--set", "pixels_in_file=true")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with runs that have no captions; not to be changed but for those."""
    home = tmp_path_factory.mktemp("recaption")
    prepare(home)
    filter_both(home)
    return home


@pytest.fixture(scope="module")
def there(home: Path, store: StorePath) -> StorePath:
    """Return a folder of a store with the same."""
    for name in ("raw", "clean", "tiny.toml"):
        (store / name).put_tree(home / name)
    filter_both(store)
    return store


@pytest.fixture(scope="module")
def models(home: Path) -> Path:
    """Return the models of a run in a folder; not to be changed."""
    pytest.importorskip("torch", reason="needs the extra recaption")
    pytest.importorskip("transformers", reason="needs the extra recaption")
    assert verb("train", home / "out", "--clean", str(home / "clean-out"), *OFTEN) == 0
    (home / "out" / "recaption" / "pixels.raw").unlink()
    return home / "out" / "recaption"


def caption(output: Path, captioner: Echo) -> None:
    run = FilterRun(output)
    for shard in run.shards:
        generate_shard(run, shard, captioner)
        score_shard(run, shard, Lengths())
    choose_all(run, CHOICE)


def test_captions_are_the_same_bytes_also_of_a_run_that_goes_on_elsewhere(
    home: Path,
    there: StorePath,
    elsewhere: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "GROUP", 8)
    caption(home / "out", Echo())
    stopped, rest = Echo(), Echo()
    stopped.dies_at = 24

    with pytest.raises(KeyboardInterrupt):
        caption(there / "out", stopped)
    elsewhere()
    caption(there / "out", rest)

    assert set(stopped.asked).isdisjoint(rest.asked)
    assert files_of(there / "out" / "captions") == files_of(home / "out" / "captions")


def test_captions_that_the_store_refuses_are_written_by_the_next_run(
    home: Path, there: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioners = [Echo(name="other"), Echo(name="other")]
    put = StorePath.put

    def refuse(self: StorePath, file: Path) -> None:
        if self.parent.name == "captions" and self.suffix == ".parquet":
            raise StoreError("no")
        put(self, file)

    runs = [FilterRun(there / "clean-out"), FilterRun(home / "clean-out")]
    shard = runs[0].shards[0]
    with monkeypatch.context() as patch:
        patch.setattr(StorePath, "put", refuse)
        with pytest.raises(StoreError):
            generate_shard(runs[0], shard, captioners[0])
    written = [generate_shard(run, run.shards[0], captioners[1]) for run in runs]

    assert written[0] == written[1] == len(captioners[0].asked) == len(captioners[1].asked) > 0
    ours, theirs = (files_of(run.output / "captions") for run in runs)
    assert ours == theirs


def test_models_and_captions_are_the_same_bytes_and_a_refused_upload_loses_nothing(
    home: Path,
    models: Path,
    there: StorePath,
    elsewhere: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put, sent = StorePath.put, list[str]()

    def refuse(self: StorePath, file: Path) -> None:
        sent.append(self.name)
        if sent.count("pretrain.pt") == 2:
            raise StoreError(f"{self} must be within reach")
        put(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(StorePath, "put", refuse)
        clean = ("--clean", str(there / "clean-out"))
        assert verb("train", there / "out", *clean, *OFTEN) == 2
    assert (
        capsys.readouterr().err
        == f"altmill: {there}/out/recaption/pretrain.pt must be within reach\n"
    )
    for name in ("train", "generate", "score", "choose"):
        elsewhere()
        more = {"train": (*clean, *OFTEN), "generate": ("--overwrite",)}.get(name, ())
        assert verb(name, there / "out", *more) == 0
    assert "pretrain: resumed at step 1\n" in capsys.readouterr().out

    assert files_of(there / "out" / "recaption") == files_of(models)
    names = (there / "out" / "recaption" / name for name in ("captioner", "filter"))
    captioner, scorer = (f"blip:{name}" for name in names)
    assert verb("generate", home / "out", "--overwrite", "--captioner", captioner) == 0
    assert verb("score", home / "out", "--scorer", scorer) == 0
    assert verb("choose", home / "out") == 0
    assert files_of(there / "out" / "captions") == files_of(home / "out" / "captions")


def test_a_beam_runner_gives_the_same_rows(home: Path, models: Path, there: StorePath) -> None:
    (there / "models").put_tree(models)
    named = [
        f"--{kind}={place}"
        for kind, place in (
            ("captioner", f"blip:{there}/models/captioner"),
            ("scorer", f"blip:{there}/models/filter"),
        )
    ]
    for place in (home, there):
        remove(place / "clean-out" / "captions")
        recipe = ("--recipe", str(place / "tiny.toml"))
        where = ("--from", str(place / "clean-out"))
        assert pipelines(["recaption", *where, *recipe, *named]) == 0

    ours, theirs = (files_of(place / "clean-out" / "captions") for place in (there, home))
    assert ours == theirs
