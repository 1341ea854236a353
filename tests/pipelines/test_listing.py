"""An input in an object store is the files that the same words name in a folder."""

from pathlib import Path

import pytest

from pipelines.commands import main
from pipelines.inputs import find_files
from recaption.stores import StorePath, to_path

TREE = (
    *("0.tar", "0.parquet", "a/1.tar", "a/1.parquet", "a/b/2.tar", "a/b/x.parquet", "notes.txt"),
    *(".h/3.tar", "_x/4.tar", "a/.5.tar", "done/manifest.json", "done/decisions/0.parquet"),
    *("done/shards/6.tar", "begun/_work/plan.json", "begun/7.tar"),
)
PATTERNS = (
    *("", "a", "0.tar", "a/1.tar", "*.tar", "*", "a/*", "*/1.*", "[0-9].tar", "**", "**/*.tar"),
    *("a/**", "a/**/2.tar", "**/b/*", "a/.*", ".h/*.tar", "?.p*t"),
)


@pytest.fixture(scope="module")
def tree(store: StorePath, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "tree"
    for name in TREE:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (store / "tree").put_tree(folder)
    return folder


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_input_names_the_same_files(pattern: str, store: StorePath, tree: Path) -> None:
    (ours, our_files), (theirs, their_files) = (
        find_files(f"{place}/{pattern}") for place in (store / "tree", tree)
    )

    assert ours.relative_to(store / "tree").as_posix() == theirs.relative_to(tree).as_posix()
    assert {path.relative_to(ours).as_posix() for path in our_files} == {
        path.relative_to(theirs).as_posix() for path in their_files
    }


def test_nothing_there_is_said(store: StorePath, capsys: pytest.CaptureFixture[str]) -> None:
    for source in (store / "nothing", store / "nothing" / "*.tar", to_path("s3://other/crawl")):
        assert main(["filter", "--input", str(source), "--output", f"{store}/x"]) == 2
        told = f"altmill: input {source} must exist, got nothing there; check the path\n"
        assert capsys.readouterr().err == told
