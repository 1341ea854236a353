"""What a run learnt is asked, exported, embedded and searched from its folder alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
transformers = pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("tensorboard", reason="needs the extra train")

from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from filters.rule import RecipeError  # noqa: E402
from recaption.files import read_json  # noqa: E402
from tests.shards import picture  # noqa: E402
from tests.train.corpora import COLOURS  # noqa: E402
from tests.train.runs import arguments, prepare  # noqa: E402
from train.__main__ import main  # noqa: E402
from train.checkpoints import Checkpoints, read_checkpoint  # noqa: E402
from train.config import ModelConfig  # noqa: E402
from train.dual_encoder import DualEncoder  # noqa: E402
from train.opening import open_run  # noqa: E402

TEXTS = ["picture 3 of shard 0", "of", ""]
IMAGES = [picture(20, 20, "PNG", colour) for colour in COLOURS]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with shards, and a run of two steps, in `run`."""
    home = prepare(tmp_path_factory.mktemp("opening") / "home")
    assert main(arguments(home, "run", "--set", "steps=2")) == 0
    return home


def test_a_model_is_asked_as_it_was_trained(home: Path) -> None:
    opened = open_run(home / "run")

    images, texts = opened.encode_images(IMAGES), opened.encode_texts(TEXTS)

    assert (opened.step, opened.model) == (2, "vit")
    assert (images.dtype, images.shape, texts.shape) == (np.float32, (5, 8), (3, 8))
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-6)
    stored = read_checkpoint(Checkpoints(home / "run" / "checkpoints").path(2))["model"]
    for name, weight in opened.network.state_dict().items():
        assert torch.equal(weight, stored[name])


def test_pixels_are_the_centre_of_the_image(home: Path) -> None:
    opened = open_run(home / "run")
    values = np.arange(20 * 20 * 3, dtype=np.uint8).reshape(20, 20, 3)
    Image.fromarray(values).save(home / "values.png")

    pixels = opened.pixels([(home / "values.png").read_bytes()])

    assert np.array_equal(pixels[0].numpy(), values[2:18, 2:18].transpose(2, 0, 1))


def test_an_answer_does_not_depend_on_what_is_asked_beside(home: Path) -> None:
    opened = open_run(home / "run")

    together = opened.encode_images(IMAGES * 20)
    alone = np.concatenate([opened.encode_images([one]) for one in IMAGES])

    np.testing.assert_allclose(together, np.tile(alone, (20, 1)), atol=1e-6)


def test_features_are_those_before_the_projection(home: Path) -> None:
    opened = open_run(home / "run")

    features = torch.from_numpy(opened.image_features(IMAGES))

    with torch.no_grad():
        projected = opened.network.image_projection(features)
    expected = torch.from_numpy(opened.encode_images(IMAGES))
    torch.testing.assert_close(torch.nn.functional.normalize(projected, dim=-1), expected)


def test_the_tower_that_is_tuned_is_a_copy(home: Path) -> None:
    opened = open_run(home / "run")
    tower, pixels = opened.image_tower(), opened.pixels(IMAGES)
    before = opened.image_features(IMAGES)

    tower(pixels).sum().backward()
    with torch.no_grad():
        for weight in tower.parameters():
            weight.zero_()

    assert before.shape == (len(IMAGES), opened.num_features)
    np.testing.assert_array_equal(opened.image_features(IMAGES), before)
    assert not tower(pixels).any()


def test_another_vocabulary_is_refused(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "run")
    lines = (tmp_path / "run" / "vocab.txt").read_text().splitlines()
    (tmp_path / "run" / "vocab.txt").write_text("\n".join([*lines[:-1], "other"]) + "\n")

    with pytest.raises(RecipeError, match=r"must hold the vocabulary that its model learnt by"):
        open_run(tmp_path / "run")


def test_a_folder_without_a_run_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "model")]) == 2

    assert f"{tmp_path}/checkpoints has none" in capsys.readouterr().err


def test_an_export_is_the_model_in_our_own_form(home: Path) -> None:
    out = home / "exported"

    assert main(["export", str(home / "run"), "--out", str(out)]) == 0

    config = read_json(out / "config.json")
    model = DualEncoder(ModelConfig(**config["model"]))
    model.load_state_dict(load_file(out / "model.safetensors"))
    opened = open_run(home / "run")
    with torch.no_grad():
        images = model.eval().encode_image(opened.pixels(IMAGES)).numpy()
    np.testing.assert_allclose(images, opened.encode_images(IMAGES), atol=1e-6)
    assert (out / "vocab.txt").read_bytes() == (home / "run" / "vocab.txt").read_bytes()


def test_transformers_reads_an_export_with_its_processor(home: Path) -> None:
    out = home / "exported-too"
    assert main(["export", str(home / "run"), "--out", str(out)]) == 0

    model = transformers.VisionTextDualEncoderModel.from_pretrained(out / "transformers").eval()
    processor = transformers.VisionTextDualEncoderProcessor(
        transformers.CLIPImageProcessorPil.from_pretrained(out / "transformers"),
        transformers.BertTokenizer.from_pretrained(out / "transformers"),
    )
    pictures = [Image.open(_file(home, at, data)) for at, data in enumerate(IMAGES)]
    inputs = processor(text=TEXTS, images=pictures, return_tensors="pt", padding=True)
    with torch.no_grad():
        answer = model(**inputs)

    opened = open_run(home / "run")
    np.testing.assert_allclose(answer.text_embeds, opened.encode_texts(TEXTS), atol=1e-4)
    np.testing.assert_allclose(answer.image_embeds, opened.encode_images(IMAGES), atol=1e-4)


def _file(folder: Path, number: int, data: bytes) -> Path:
    path = folder / f"{number}.png"
    path.write_bytes(data)
    return path


def test_the_card_tells_data_recipe_and_provenance(home: Path) -> None:
    out = home / "carded"
    on = f"retrieval:{home / 'shards'}"
    assert main(["evaluate", str(home / "run"), "--on", on]) == 0

    assert main(["export", str(home / "run"), "--out", str(out)]) == 0

    card = (out / "README.md").read_text()
    weights = read_json(out / "config.json")["weights_sha256"]
    for told in (str(home / "shards"), weights, '"learning_rate": 0.01', "2 steps of 8 pairs"):
        assert told in card
    assert "| shards | zeroshot_retrieval | image_retrieval_recall@1 |" in card


def test_an_export_does_not_write_over_another_model(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))

    assert main(["export", str(home / "run"), "--out", str(tmp_path)]) == 2

    assert "must be new or hold an export" in capsys.readouterr().err
    assert read_json(tmp_path / "config.json") == {"model_type": "bert"}


def test_what_is_embedded_is_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, run = home / "embeddings", str(home / "run")

    data = ["--data", str(home / "shards"), "--out", str(out)]
    assert main(["embed", run, *data]) == 0
    told = capsys.readouterr().out
    image = _file(home, 100, picture(20 + 6, 24, "PNG", COLOURS[1]))
    assert main(["search", run, "--index", str(out), "--image", str(image), "--top", "3"]) == 0

    assert "60 pairs" in told
    rows = pq.read_table(out / "metadata" / "metadata_0.parquet").to_pylist()
    vectors = np.load(out / "img_emb" / "img_emb_0.npy").astype(np.float32)
    query = open_run(home / "run").encode_images([image.read_bytes()])[0]
    nearest = np.argsort(-(vectors @ query), kind="stable")[:3]
    found = capsys.readouterr().out.splitlines()
    assert len(found) == 3
    assert found[0].split("  ")[1] in {rows[at]["image_path"] for at in nearest}


def test_a_search_for_nothing_is_one_sentence(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = str(home / "run"), ["--data", str(home / "shards")]
    assert main(["embed", run, *data, "--out", str(home / "embedded")]) == 0

    assert main(["search", run, "--index", str(home / "embedded")]) == 2

    assert "a search must have a text or an image" in capsys.readouterr().err
