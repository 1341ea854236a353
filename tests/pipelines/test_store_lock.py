"""Two runs never write to one folder of an object store."""

import tempfile
from pathlib import Path

import pytest

from pipelines.commands import main
from pipelines.store_lock import SILENT_S, held
from recaption.files import write_text
from recaption.manifest import ManifestError
from recaption.stores import StorePath
from tests.shards import write_parquet


def test_one_run_at_a_time_writes_to_a_folder(
    store: StorePath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_parquet(tmp_path / "in" / "0.parquet", {"url": ["u"], "caption": ["a red shoe"]})
    command = [
        "filter",
        "--input",
        str(tmp_path / "in"),
        "--output",
        f"{store}/held",
        "--workers",
        "1",
    ]
    elsewhere = tempfile.gettempdir()
    for machine, more in ((elsewhere, ""), (tmp_path, f", or for {SILENT_S} s if it was killed")):
        with held(store / "held"):
            monkeypatch.setattr(tempfile, "tempdir", str(machine))
            assert main(command) == 2
        monkeypatch.setattr(tempfile, "tempdir", elsewhere)
        assert capsys.readouterr().err == (
            f"altmill: output {store}/held must be written by one run at a time, got another at "
            f"work there; wait for it{more}, or choose another folder\n"
        )
    assert not (store / "held" / "_lock").is_dir() or not list((store / "held" / "_lock").iterdir())


def test_a_run_that_was_killed_elsewhere_is_forgotten(
    store: StorePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(store / "left" / "_lock" / "killed", "{}")
    with pytest.raises(ManifestError), held(store / "left"):
        pass
    monkeypatch.setattr("pipelines.store_lock.SILENT_S", -1)

    with held(store / "left"):
        assert len(list((store / "left" / "_lock").iterdir())) == 1
