"""Test images are kept out of what is kept: from the index to the report."""

import io
import json
import shutil
import warnings
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageEnhance, ImageOps

from pipelines.commands import main
from pipelines.explain import explain
from tests.shards import photo, picture, write_parquet, write_shard

RECIPE = """\
name = "clean"
[images]
hashes = "{mode}"
[test_sets]
indexes = ["{index}"]
[rules.pdq_distance]
min_exclusive = 31
[rules.phash_distance]
min_exclusive = 8
"""


def saved(image: Image.Image, **options: int) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", **options)
    return file.getvalue()


def opened(seed: int) -> Image.Image:
    return Image.open(io.BytesIO(photo(seed)))


PLANTED = {
    "same": photo(0),
    "worse": saved(opened(1), quality=40),
    "small": saved(opened(2).resize((220, 165)), quality=85),
    "flipped": saved(ImageOps.mirror(opened(3)), quality=85),
    "turned": saved(opened(4).rotate(90, expand=True), quality=85),
    "gray": saved(opened(5).convert("L"), quality=85),
    "bright": saved(ImageEnhance.Brightness(opened(6)).enhance(1.15), quality=85),
}
OTHERS = {f"other{n}": photo(100 + n) for n in range(8)} | {"flat": picture(240, 250, "JPEG")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a test set, its index, and shards with copies of its images."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "val").mkdir()
    for seed in range(7):
        (folder / "val" / f"{seed}.jpg").write_bytes(photo(seed))
    (folder / "val" / "flat.jpg").write_bytes(picture(250, 240, "JPEG"))
    images = list((PLANTED | OTHERS).items())
    for shard in range(2):
        pairs = [(key, image, f"a photo of {key}") for key, image in images[shard::2]]
        write_shard(folder / "in" / f"{shard}", [*pairs, (f"broken{shard}", photo(9)[:999], "cut")])
    assert main(["index", "--images", str(folder / "val"), "--out", str(folder / "index")]) == 0
    return folder


def run(corpus: Path, output: Path, *options: str, mode: str = "fast") -> Path:
    recipe = output.with_suffix(".toml")
    recipe.write_text(RECIPE.format(index=corpus / "index", mode=mode))
    command = ["filter", "--input", str(corpus / "in"), "--output", str(output)]
    assert main([*command, "--recipe", str(recipe), *options]) == 0
    return output


def told(output: Path, *names: str) -> dict[str, tuple[object, ...]]:
    """Return some columns and decisions by key."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted((output / "columns").rglob("*.parquet")):
        rows = pq.read_table(path).to_pylist()
        decisions = pq.read_table(output / "decisions" / path.name).to_pylist()
        for row, decision in zip(rows, decisions, strict=True):
            found[row["key"]] = tuple((row | decision)[name] for name in names)
    return found


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_copies_go_and_others_stay(mode: str, corpus: Path, tmp_path: Path) -> None:
    output = run(corpus, tmp_path / "out", "--workers", "1", mode=mode)

    found = told(output, "reason", "pdq_nearest", "pdq_distance", "phash_distance", "value")
    for seed, key in enumerate(PLANTED):
        reason, nearest, pdq, phash, value = found[key]
        assert reason == "pdq_distance.test_image", key
        assert nearest == f"val/{seed}.jpg"
        assert value == f"{pdq} to val/{seed}.jpg"
        assert (pdq, phash) == (0, 0) or key != "same"
    for key in OTHERS:
        flat = key == "flat"
        assert found[key] == (None, None, None if flat else 32, None if flat else 9, None), key
    assert found["broken0"][:4] == ("intact.image_damaged", None, None, None)


def test_carriers_replays_and_processes_give_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    one = run(corpus, tmp_path / "one", "--workers", "1")
    two = run(corpus, tmp_path / "two", "--workers", "2")
    beam = ["--", "--runner=FnApiRunner", "--direct_runner_bundle_repeat=1"]
    native = run(corpus, tmp_path / "native", *beam)

    for path in sorted(p for p in one.rglob("*.*") if p.parent.name in ("columns", "decisions")):
        for other in (two, native):
            assert (other / path.relative_to(one)).read_bytes() == path.read_bytes()


def test_another_threshold_is_decided_without_an_image(corpus: Path, tmp_path: Path) -> None:
    output = run(corpus, tmp_path / "out", "--workers", "1")
    recipe = tmp_path / "strict.toml"
    recipe.write_text(
        RECIPE.format(index=corpus / "index", mode="fast")
        .replace("min_exclusive = 31", "min_exclusive = 0")
        .replace("[rules.phash_distance]\nmin_exclusive = 8\n", "")
    )
    decide = ["decide", "--from", str(output), "--output", str(tmp_path / "again")]

    assert main([*decide, "--recipe", str(recipe)]) == 0

    manifest = json.loads((tmp_path / "again" / "manifest.json").read_text())
    exact = sum(row[0] == 0 for row in told(output, "pdq_distance").values())
    assert manifest["dropped"]["pdq_distance.test_image"] == exact
    assert list(manifest["test_sets"]) == [str(corpus / "index")]


def test_the_story_and_the_report_show_the_test_image(corpus: Path, tmp_path: Path) -> None:
    output = run(corpus, tmp_path / "out", "--workers", "1")
    (uid,) = told(output, "uid")["flipped"]

    story = explain(str(uid), output)
    page = (output / "report" / "index.html").read_text()

    assert "pdq_nearest      val/3.jpg" in story
    assert "pdq_distance.test_image" in story
    assert page.count('<div class="pair">') == len(PLANTED)
    assert "Too flat for hashes" in page


def test_without_its_pictures_an_index_still_works(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "0.jpg").write_bytes(photo(0))
    command = ["index", "--images", str(tmp_path / "val"), "--out", str(tmp_path / "index")]
    assert main(command) == 0
    (tmp_path / "val" / "0.jpg").unlink()
    (tmp_path / "in").symlink_to(corpus / "in")

    output = run(tmp_path, tmp_path / "out", "--workers", "1")

    assert told(output, "reason")["same"] == ("pdq_distance.test_image",)
    page = (output / "report" / "index.html").read_text()
    assert "its picture is not there any more" in page
    shutil.rmtree(tmp_path / "index")
    decide = ["decide", "--from", str(output), "--output", str(tmp_path / "again")]
    assert main([*decide, "--recipe", str(tmp_path / "out.toml")]) == 0
    again = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert again["dropped"]["pdq_distance.test_image"] == 1
    assert again["test_sets"] == {str(tmp_path / "index"): None}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("test_sets.pdq_radius=20", "rules.pdq_distance must keep what is further than "),
        ("test_sets.pdq_radius=64", "test_sets.pdq_radius must be from 0 to 63, got 64"),
        ("test_sets.indexes=['/nowhere']", "index /nowhere must be a folder that the job index"),
        ("test_sets.indexes='x'", "test_sets.indexes must be a list, got 'x' (str)"),
        ("images.hashes=slow", "images.hashes must be when_needed, fast, exact, got 'slow'"),
    ],
)
def test_what_cannot_work_is_refused(
    change: str, sentence: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.format(index=corpus / "index", mode="fast"))
    command = ["filter", "--input", str(corpus / "in"), "--output", str(tmp_path / "out")]

    assert main([*command, "--recipe", str(recipe), "--set", change]) == 2

    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_metadata_cannot_be_looked_for(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(tmp_path / "in" / "0.parquet", {"url": ["u"], "caption": ["c"]})
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.format(index=corpus / "index", mode="fast"))
    command = ["filter", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]

    assert main([*command, "--recipe", str(recipe)]) == 2

    assert "test_sets.indexes must have image bytes to look for" in capsys.readouterr().err


def test_a_rule_without_an_index_says_that_it_did_not_run(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('name = "none"\n[rules.pdq_distance]\nmin_exclusive = 31\n')
    command = ["filter", "--input", str(corpus / "in"), "--output", str(tmp_path / "out")]

    assert main([*command, "--recipe", str(recipe), "--dry-run"]) == 0
    assert "cannot run: the recipe's test_sets.indexes is empty" in capsys.readouterr().out
    assert main([*command, "--recipe", str(recipe)]) == 0
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "no row has pdq_distance, which needs test_sets.indexes" in page


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with an encoder: pooled pixels through a random matrix."""
    torch = pytest.importorskip("torch", reason="needs the extra recaption")
    pytest.importorskip("transformers", reason="needs the extra recaption")
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(192, 64, bias=False)
    )
    path = tmp_path_factory.mktemp("model") / "encoder.pt"
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(network).save(path)
    return path


@pytest.mark.parametrize("clusters", [0, 6])
def test_an_embedding_finds_copies_too(
    clusters: int, model: Path, corpus: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'name = "alike"\nembedding.model = "{model}"\nembedding.size_px = 64\n'
        f'embedding.clusters = {clusters}\ntest_sets.indexes = ["{tmp_path / "index"}"]\n'
        "[rules.embedding_similarity]\nmax_inclusive = 0.99\n"
    )
    told_index = ["--images", str(corpus / "val"), "--out", str(tmp_path / "index")]
    told_filter = ["--input", str(corpus / "in"), "--output", str(tmp_path / "out")]
    options = ["--recipe", str(recipe), "--workers", "1"]

    assert main(["index", *told_index, *options]) == 0
    assert main(["filter", *told_filter, *options]) == 0

    found = told(tmp_path / "out", "reason", "embedding_nearest", "embedding_similarity")
    for key, seed in (("same", 0), ("worse", 1), ("small", 2)):
        reason, nearest, similarity = found[key]
        assert (reason, nearest) == ("embedding_similarity.test_image", f"val/{seed}.jpg")
        assert similarity == pytest.approx(1, abs=0.01)
    assert found["other1"][0] is None
    assert found["broken0"] == ("intact.image_damaged", None, None)


def test_an_index_without_the_recipes_embedding_is_refused(
    model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told_filter = ["--input", str(corpus / "in"), "--output", str(tmp_path / "out")]
    index = f'test_sets.indexes=["{corpus / "index"}"]'

    assert main(["filter", *told_filter, "--set", f"embedding.model={model}"]) == 2
    assert "embedding.model must have test sets to compare with" in capsys.readouterr().err
    options = ["--set", f"embedding.model={model}", "--set", index]
    assert main(["filter", *told_filter, *options]) == 2
    assert f"must hold embeddings by {model}, got none" in capsys.readouterr().err
