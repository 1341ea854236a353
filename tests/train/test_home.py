"""A run's folder in an object store: what is there is what a local run leaves, and enough."""

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("tensorboard", reason="needs the extra train")

from pipelines.commands import main as pipelines  # noqa: E402
from pipelines.store_lock import held  # noqa: E402
from recaption.copies import root  # noqa: E402
from recaption.files import read_json  # noqa: E402
from recaption.store_clients import StoreError  # noqa: E402
from recaption.stores import StorePath  # noqa: E402
from tests.train.runs import TWO, ended, losses, prepare, started, validations  # noqa: E402
from train.__main__ import main  # noqa: E402
from train.checkpoints import Checkpoints  # noqa: E402
from train.home import LEFT  # noqa: E402
from train.opening import open_run  # noqa: E402


@pytest.fixture(scope="module")
def home(store: StorePath, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a recipe and `run`, a run over shards that are in a store as well."""
    home = prepare(tmp_path_factory.mktemp("runs") / "home")
    (store / "shards").put_tree(home / "shards")
    assert main(arguments(home, store, home / "run")) == 0
    return home


def arguments(home: Path, store: StorePath, out: Path, *more: str) -> list[str]:
    where = ["--data", str(store / "shards"), "--out", str(out)]
    return ["run", str(home / "tiny.toml"), *where, *more]


def assert_same(there: Path, here: Path) -> None:
    assert losses(there) == losses(here)
    assert validations(there) == validations(here)
    ours, theirs = (Checkpoints(run / "checkpoints") for run in (there, here))
    assert (ours.steps(), ours.best()) == (theirs.steps(), theirs.best())
    networks = [open_run(run, "last", "cpu").network.state_dict() for run in (there, here)]
    assert all(torch.equal(weight, networks[1][name]) for name, weight in networks[0].items())


def test_a_run_leaves_in_a_store_what_it_leaves_in_a_folder(home: Path, store: StorePath) -> None:
    run = store / "run"
    (store / "run" / "note.txt").put(home / "tiny.toml")

    for _ in range(2):  # and then there is nothing left to do
        assert main(arguments(home, store, run)) == 0

        assert_same(run, home / "run")
        left = {path.relative_to(run).parts[0] for path in run.below()}
        assert left == {*LEFT, "note.txt"} - {"evaluation"}
        assert b"s3://bucket" in (run / "report" / "index.html").read_bytes()
        assert not list((root() / "work").glob("*/*"))


def test_a_run_whose_checkpoint_is_refused_goes_on_elsewhere_to_the_same_bits(
    home: Path,
    store: StorePath,
    elsewhere: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, put = store / "refused", StorePath.put

    def refuse(self: StorePath, file: Path) -> None:
        if self.name == "step-000000006.pt":
            raise StoreError(f"{self} must be within reach")
        put(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(StorePath, "put", refuse)
        assert main(arguments(home, store, run)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"altmill: {run}/checkpoints/step-000000006.pt must be within reach"
    assert Checkpoints(run / "checkpoints").steps()[-1] == 5
    elsewhere()
    assert main(arguments(home, store, run)) == 0

    assert_same(run, home / "run")


def test_one_run_at_a_time_is_at_work_and_another_can_begin_anew(
    home: Path, store: StorePath, capsys: pytest.CaptureFixture[str]
) -> None:
    run = store / "twice"
    assert main(arguments(home, store, run, "--set", "steps=2")) == 0
    with held(run):
        assert main(arguments(home, store, run, "--overwrite")) == 2
        assert "must be written by one run at a time" in capsys.readouterr().err
    assert Checkpoints(run / "checkpoints").steps() == [2]
    assert main(arguments(home, store, run)) == 2
    assert "got one where steps was 2 and is 10" in capsys.readouterr().err

    assert main(arguments(home, store, run, "--overwrite")) == 0

    assert_same(run, home / "run")


def test_a_run_in_a_store_is_evaluated_exported_and_asked(
    home: Path, store: StorePath, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(home, store, store / "whole")) == 0
    assert pipelines(["sample", "--output", str(home / "test"), "--rows", "30", "--clean"]) == 0
    hits = []
    for run, model in ((home / "run", home / "model"), (store / "whole", store / "model")):
        assert main(["evaluate", str(run), "--on", f"retrieval:{home / 'test'}"]) == 0
        assert main(["export", str(run), "--out", str(model)]) == 0
        index = str(model.parent / "embeddings")
        assert main(["embed", str(run), "--data", str(store / "shards"), "--out", index]) == 0
        capsys.readouterr()
        assert main(["search", str(run), "--index", index, "--text", "red", "--top", "3"]) == 0
        hits.append(capsys.readouterr().out)

    ours, theirs = (
        {name: read_json(path) for name, path in results(run).items()}
        for run in (store / "whole", home / "run")
    )
    assert len(ours) == 1
    for found in (*ours.values(), *theirs.values()):
        found.pop("pretrained")
    assert ours == theirs
    assert hits[0] == hits[1] != ""
    weights = ("model.safetensors", "config.json", "vocab.txt", "transformers/model.safetensors")
    for name in weights:
        assert (store / "model" / name).read_bytes() == (home / "model" / name).read_bytes()


def results(run: Path) -> dict[str, Path]:
    return {path.name: path for path in (run / "evaluation").glob("*.json")}


@pytest.mark.slow
def test_two_processes_share_what_is_here(home: Path, store: StorePath) -> None:
    still = ("--set", "model.dropout=0.0")
    ended(started(arguments(home, store, store / "two", *still), TWO))
    assert main(arguments(home, store, home / "one", *still)) == 0

    assert losses(store / "two") == pytest.approx(losses(home / "one"), rel=1e-4)
    assert not list((root() / "work").glob("*/*"))
