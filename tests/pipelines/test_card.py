"""The card beside materialised shards: what `datasets` and the Hub read, and nothing that acts."""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.card import size_category, span
from pipelines.commands import main
from recaption.captions import add_provenance
from recaption.choice import choose_all
from recaption.choosing import Choose
from recaption.filter_run import FilterRun
from recaption.shards import digest_of, generate_shard, score_shard
from tests.captioners import Echo, Lengths
from tests.outputs import files_of, manifest_of
from tests.shards import picture, write_parquet, write_tar

HOSTILE = "a|b`</code>\n---\n# x <script>alert(1)</script> [y](javascript:z) \u202e"
RECIPE = "name = {name}\nmaterialise = true\n\n[rules.shorter_side]\nmin_exclusive = 200\n"


def run_filter(folder: Path, name: str = "mine") -> Path:
    (folder / "mine.toml").write_text(RECIPE.format(name=json.dumps(name)), encoding="utf-8")
    options = ("--output", folder / "out", "--recipe", folder / "mine.toml", "--workers", "1")
    assert main(["filter", "--input", *map(str, (folder / "in", *options))]) == 0
    return folder / "out"


def shard(path: Path, kinds: dict[str, str], column: str = "label") -> None:
    pairs = {key: (picture(201, 220, kind), f"shoe {key}") for key, kind in kinds.items()}
    members = {f"{key}.{kinds[key].lower()}": image for key, (image, _) in pairs.items()}
    texts = {f"{key}.txt": text.encode() for key, (_, text) in pairs.items()}
    write_tar(path.with_suffix(".tar"), sorted((members | texts).items()))
    columns = {"key": list(kinds), "caption": [text for _, text in pairs.values()]}
    tags = [["x", key] for key in kinds]
    columns |= {column: list(range(len(kinds))), "tags": tags, "of": [{"n": 1.5}] * len(kinds)}
    write_parquet(path.with_suffix(".parquet"), columns)


def front_matter(card: str) -> dict[str, Any]:
    return yaml.safe_load(parts(card)[0])


def parts(card: str) -> tuple[str, str]:
    """Cut a card where the Hub does: at the first line of three dashes that is not indented."""
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    return head, body


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Return a run over shards, one of them in a folder, with images of two kinds."""
    shard(tmp_path / "in" / "0", {"a": "PNG", "b": "PNG", "c": "PNG", "d": "WEBP"})
    shard(tmp_path / "in" / "deep" / "1", {"e": "WEBP", "f": "PNG"})
    return run_filter(tmp_path)


@pytest.mark.filterwarnings("ignore")  # theirs
def test_datasets_loads_the_folder(mixed: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="reads what we write; too heavy for dev")

    pairs = datasets.load_dataset(str(mixed / "shards"), cache_dir=str(tmp_path / "cache"))

    found = {row["__key__"]: row for row in pairs["train"]}
    assert {key: row["txt"] for key, row in found.items()} == {k: f"shoe {k}" for k in "abcdef"}
    assert [row["png"] is None for row in found.values()] == [key in "de" for key in found]
    assert found["d"]["webp"].size == (201, 220)
    assert found["f"]["json"]["label"] == 1
    assert found["f"]["json"]["tags"] == ["x", "f"]
    assert found["f"]["json"]["of"] == {"n": 1.5}


def test_the_hub_reads_the_card(mixed: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="comes with the extra recaption")

    card = hub.DatasetCard.load(mixed / "shards" / "README.md")

    assert card.data.license == "unknown"
    assert card.data.size_categories == ["n<1K"]
    assert "zero-shot-image-classification" in card.data.task_categories
    assert card.data.configs[0]["data_files"] == [{"split": "train", "path": "**/*.tar"}]


def test_the_account_and_the_recipe_are_those_of_the_run(filtered: Path, tmp_path: Path) -> None:
    output = shutil.copytree(filtered, tmp_path / "out")
    assert main(["materialise", "--from", str(output), "--workers", "1"]) == 0
    manifest = manifest_of(output)

    card = (output / "shards" / "README.md").read_text(encoding="utf-8")

    for reason, rows in manifest["dropped"].items():
        assert f"| -{rows:,} | `{reason}` |" in card
    assert f"| {manifest['rows_in']:,} | read |" in card
    assert f"| {manifest['kept']:,} | in these shards |" in card
    assert manifest["recipe_digest"] in card
    info = front_matter(card)
    assert info["language"] == ["en"]
    tars = (output / "shards").glob("*.tar")
    assert info["dataset_info"]["splits"] == [
        {
            "name": "train",
            "num_bytes": sum(tar.stat().st_size for tar in tars),
            "num_examples": manifest["kept"],
        }
    ]
    assert manifest["input"] not in card


def test_names_of_an_input_and_of_a_recipe_are_shown_and_do_nothing(tmp_path: Path) -> None:
    markdown = pytest.importorskip("markdown_it", reason="a second opinion on what is markup")
    shard(tmp_path / "in" / "0", {"a": "PNG"}, column=HOSTILE)
    output = run_filter(tmp_path, name=HOSTILE)

    card = (output / "shards" / "README.md").read_text(encoding="utf-8")

    info = front_matter(card)
    assert info["license"] == "unknown"
    columns = next(one for one in info["dataset_info"]["features"] if one["name"] == "json")
    assert HOSTILE in [one["name"] for one in columns["struct"]]
    body = parts(card)[1]
    tokens = markdown.MarkdownIt("commonmark").enable("table").parse(body)
    every = [child for token in tokens for child in (token, *(token.children or ()))]
    assert not {token.type for token in every} & {"html_block", "html_inline", "link_open"}
    titles = [
        t.content for t, before in zip(tokens[1:], tokens, strict=False) if before.tag == "h1"
    ]
    assert len([title for title in titles if title]) == 1
    assert "\u202e" not in body
    recipe = next(token.content for token in tokens if token.info == "toml")
    assert tomllib.loads(recipe) == manifest_of(output)["recipe"]


def test_a_span_holds_any_text() -> None:
    assert span("plain") == "`plain`"
    assert span("a`b``c") == "``` a`b``c ```"
    assert span("") == "`  `"
    assert span("a\nb") == "`a↵b`"


def test_the_card_says_where_captions_come_from(tmp_path: Path) -> None:
    shard(tmp_path / "in" / "0", {"a": "PNG", "b": "PNG"})
    run, captioner = FilterRun(run_filter(tmp_path)), Echo(2, name="echo <b>")
    assert "- All are those of the input." in card_of(run)
    for one in run.shards:
        generate_shard(run, one, captioner)
        score_shard(run, one, Lengths())
    add_provenance(
        run.output,
        {"captioners": {digest_of(captioner.spec): captioner.spec}, "scorer": {"scorer": "itm"}},
    )
    choose_all(run, Choose(min_itm_inclusive=0.05))

    assert main(["materialise", "--from", str(run.output), "--workers", "1"]) == 0

    card = card_of(run)
    assert "- 0 are those of the input, 2 are synthetic" in card
    assert f"- Captioner `{digest_of(captioner.spec)}`: `echo <b>`" in card
    assert "- Scored by `itm`" in card
    assert "shoe" not in card


def card_of(run: FilterRun) -> str:
    return (run.output / "shards" / "README.md").read_text(encoding="utf-8")


def test_the_same_run_gives_the_same_card(mixed: Path) -> None:
    before = files_of(mixed / "shards")

    assert main(["materialise", "--from", str(mixed), "--workers", "2"]) == 0

    assert files_of(mixed / "shards") == before
    assert {"README.md", "croissant.json", "sizes.json"} <= before.keys()


@pytest.mark.parametrize(
    ("samples", "name"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (9_999_999, "1M<n<10M"),
        (10**7, "10M<n<100M"),
        (10**12 - 1, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
)
def test_sizes_have_the_names_of_the_hub(samples: int, name: str) -> None:
    assert size_category(samples) == name
