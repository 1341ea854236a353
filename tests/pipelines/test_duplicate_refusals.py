"""What duplicates cannot be told by is refused before any work."""

from pathlib import Path

import pytest

from pipelines.commands import main
from tests.shards import picture, write_parquet, write_shard


def command(job: str, *options: object) -> int:
    return main([job, *map(str, options), "--workers", "1"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            ["rules.duplicate.same=near_pair"],
            "rules.duplicate.same must be pair or image, as an input of metadata alone has no "
            "images to hash, got 'near_pair'; say --set rules.duplicate.same=pair",
        ),
        (
            ["rules.duplicate.same=image", "rules.duplicate.keep=best_score"],
            "rules.duplicate.keep must be largest_image or first, as the input has no clip_score, "
            "got 'best_score'; choose one of them",
        ),
    ],
)
def test_metadata_alone_have_neither_hashes_nor_scores(
    changes: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(tmp_path / "in" / "0.parquet", {"url": ["u"], "caption": ["a red shoe"]})
    set_ = [part for change in changes for part in ("--set", change)]

    code = command("filter", "--input", tmp_path / "in", "--output", tmp_path / "out", *set_)

    assert (code, capsys.readouterr().err) == (2, f"altmill: {sentence}\n")


def test_columns_without_hashes_cannot_be_decided_by_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    write_shard(source / "0", [("a", picture(99, 99), "a red shoe")])
    (tmp_path / "a.toml").write_text('name = "a"\n')
    by = ("--recipe", tmp_path / "a.toml")
    assert command("filter", "--input", source, "--output", tmp_path / "out", *by) == 0
    capsys.readouterr()

    code = command(
        "decide", "--from", tmp_path / "out", *by, "--set", "rules.duplicate.same=near_pair"
    )

    assert (code, capsys.readouterr().err) == (
        2,
        "altmill: rules.duplicate must have hashes for same = 'near_pair', got columns that were "
        "measured without; use pair or image, or run filter with this recipe\n",
    )
