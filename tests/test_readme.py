"""The README's commands run, in its order, and print what it says."""

import re
import shlex
import shutil
import tarfile
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

import pipelines.arguments
import recaption.arguments
import train.arguments
from tests.commands import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEST_IMAGES = 20
NOT_COPIED = shutil.ignore_patterns(
    *(".git", ".venv", ".flink", "out", "sample", "sample-clean", "sample-test", "runs"),
    *(".*_cache", ".hypothesis"),
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project, with a crawl in it, and some of its images as a test set."""
    clone = tmp_path_factory.mktemp("readme") / "altmill"
    shutil.copytree(ROOT, clone, ignore=NOT_COPIED)
    run("python -m pipelines sample --output crawl --rows 600", clone)
    (clone / "val").mkdir()
    images = (image for tar in sorted(clone.glob("crawl/*.tar")) for image in intact_images(tar))
    for name, data in islice(images, TEST_IMAGES):
        (clone / "val" / name).write_bytes(data)
    return clone


def intact_images(tar: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(tar) as files:
        for member in files:
            content = files.extractfile(member)
            data = content.read() if content and member.name.endswith(".jpg") else b""
            with (
                suppress(OSError, Image.DecompressionBombError),
                Image.open(BytesIO(data)) as image,
            ):
                image.load()
                yield member.name, data


def test_the_commands_run_and_the_first_prints_the_funnel(clone: Path) -> None:
    commands = [line.partition("#")[0] for block in blocks("sh") for line in block.splitlines()]
    commands = [command for command in commands if command.strip() != "make check test"]

    uid = "UID"
    printed = []
    for command in commands:
        printed.append(run(command.replace("UID", uid), clone))
        found = re.search(r"report: (\S+)/report", printed[-1])
        uid = next(iter(uids(clone / found[1])), uid) if found else uid

    assert blocks("text")[0] in printed[0]
    assert f"{uid}  " in printed[commands.index(next(c for c in commands if "explain" in c))]


def uids(output: Path) -> list[str]:
    import pyarrow.parquet as pq

    path = sorted((output / "decisions").rglob("*.parquet"))[0]
    return pq.read_table(path, columns=["uid"])["uid"].to_pylist()


@pytest.mark.parametrize("recipe", blocks("toml"), ids=lambda recipe: tomllib.loads(recipe)["name"])
def test_a_recipe_in_the_readme_is_one(recipe: str, clone: Path) -> None:
    name = tomllib.loads(recipe)["name"]
    (clone / f"{name}.toml").write_text(recipe, encoding="utf-8")

    options = f"--input crawl --output {name} --recipe {name}.toml"
    printed = run(f"python -m pipelines filter {options}", clone)

    assert "kept" in printed
    assert (clone / name / "shards" / "sizes.json").is_file() == ("materialise" in recipe)
    assert (clone / name / "tables" / "merged_captions").is_dir() == ("merge_captions" in recipe)


def test_the_commands_for_large_models_are_understood() -> None:
    packages = (pipelines.arguments, recaption.arguments, train.arguments)
    verbs = {package.__name__.partition(".")[0]: package.parser() for package in packages}
    lines = [line for block in blocks("bash") for line in block.splitlines()]

    for line in lines:
        package, _, options = line.partition("-m ")[2].partition(" ")
        verbs[package].parse_args(shlex.split(options))

    assert len(lines) > 5


def test_the_tree_names_every_folder() -> None:
    named = re.findall(r"^(\w+)/ ", blocks("text")[2], flags=re.MULTILINE)

    packages = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    assert sorted({*named} - {"tests"}) == packages
