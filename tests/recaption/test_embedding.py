"""Embeddings: any encoder's vectors, of length 1, and the digest of what made them."""

import io
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from filters.recipe import Embedding
from filters.rule import RecipeError
from recaption.embedding import encoder
from tests.recaption.drawings import drawing, encoded

torch = pytest.importorskip("torch", reason="needs the extra recaption")
transformers = pytest.importorskip("transformers", reason="needs the extra recaption")

SIZE = 24
PICTURES = [encoded(drawing(seed)) for seed in range(70)]
"""More than two batches."""
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 16,
}

Change = Callable[[Any], Any]


class Network(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A tiny encoder, or something that is none."""

    def __init__(self, change: Change | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 5, stride=3),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(16, 6, bias=False),
        )
        self.change = change

    def forward(self, pixels: Any) -> Any:
        rows = self.layers(pixels)
        return self.change(rows) if self.change else rows


def traced(path: Path, change: Change | None = None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but what SSCD comes in
        module = torch.jit.trace(Network(change).eval(), torch.zeros(2, 3, SIZE, SIZE))
        module.save(path)
    return path


def config(path: Path) -> Embedding:
    return Embedding(model=str(path), size_px=SIZE)


def by_hand(images: list[bytes]) -> np.ndarray[Any, Any]:
    network, rows = Network().eval(), []
    for image in images:
        square = Image.open(io.BytesIO(image)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.asarray(square).transpose(2, 0, 1) / 255)
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        with torch.no_grad():
            row = network(((pixels - mean) / std)[None].float())[0]
        rows.append((row / row.norm()).numpy())
    return np.stack(rows)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return traced(tmp_path_factory.mktemp("script") / "encoder.torchscript.pt")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "encoder.pt2"
    batches = ({0: torch.export.Dim("n", max=1024)},)
    example = (torch.zeros(2, 3, SIZE, SIZE),)
    torch.export.save(torch.export.export(Network().eval(), example, dynamic_shapes=batches), path)
    return path


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("vit"), transformers.ViTModel, transformers.ViTConfig)


def stored(folder: Path, model: Any, kind: Any, **changes: Any) -> Path:
    torch.manual_seed(0)
    model(kind(**VIT, **changes)).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["script", "exported", "vit"])
def test_a_row_is_of_length_1_and_does_not_depend_on_its_batch(
    kind: str, request: pytest.FixtureRequest
) -> None:
    encode = encoder(config(request.getfixturevalue(kind)))

    together = encode(PICTURES)
    alone = np.concatenate([encode([picture]) for picture in PICTURES])

    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(len(PICTURES)), abs=1e-6)
    assert together == pytest.approx(alone, abs=1e-5)
    assert np.array_equal(together, encode(PICTURES))
    assert len(np.unique(together.round(4), axis=0)) == len(PICTURES)


@pytest.mark.parametrize("kind", ["script", "exported"])
def test_a_file_embeds_as_its_network_does_by_hand(
    kind: str, request: pytest.FixtureRequest
) -> None:
    rows = encoder(config(request.getfixturevalue(kind)))(PICTURES)

    assert rows == pytest.approx(by_hand(PICTURES), abs=1e-5)


def test_a_picture_that_lies_on_its_side_is_embedded_upright(script: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees, clockwise
    lying = encoded(drawing(0).transpose(Image.Transpose.ROTATE_90), exif=exif)

    rows = encoder(config(script))([lying, PICTURES[0]])

    assert rows[0] == pytest.approx(rows[1], abs=1e-6)


def test_no_image_is_no_row(script: Path) -> None:
    assert encoder(config(script))([]).shape == (0, 6)


def test_mean_and_deviation_are_the_recipes(script: Path) -> None:
    other = Embedding(model=str(script), size_px=SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    rows = encoder(other)(PICTURES[:2])

    assert not np.allclose(rows, by_hand(PICTURES[:2]), atol=1e-3)


def test_the_vector_is_the_pooled_output(vit: Path) -> None:
    network = transformers.ViTModel.from_pretrained(vit).eval()

    row = encoder(config(vit))(PICTURES[:1])[0]

    pooled = of_transformers(network, vit).pooler_output[0]
    assert row == pytest.approx((pooled / pooled.norm()).numpy(), abs=1e-5)


def of_transformers(network: Any, folder: Path) -> Any:
    processor = transformers.ViTImageProcessor.from_pretrained(folder)
    inputs = processor(images=[Image.open(io.BytesIO(PICTURES[0]))], return_tensors="pt")
    with torch.no_grad():
        return network(**inputs)


def test_a_pooler_that_was_never_trained_is_not_used(tmp_path: Path) -> None:
    folder = stored(tmp_path, transformers.ViTForImageClassification, transformers.ViTConfig)
    network = transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()

    row = encoder(config(folder))(PICTURES[:1])[0]

    mean = of_transformers(network, folder).last_hidden_state.mean(1)[0]
    assert row == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)


def test_a_convolutional_network_of_transformers_has_rows_too(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1]}
    transformers.ResNetModel(
        transformers.ResNetConfig(layer_type="basic", **sizes)
    ).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)

    assert encoder(config(tmp_path))(PICTURES[:3]).shape == (3, 12)


def test_clip_embeds_by_its_image_tower_and_projection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 99}
    torch.manual_seed(0)
    clip = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=VIT, projection_dim=5)
    ).eval()
    clip.save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)

    rows = encoder(config(tmp_path))(PICTURES[:3])
    features = transformers.CLIPModel.get_image_features
    monkeypatch.setattr(  # as some models do
        transformers.CLIPModel,
        "get_image_features",
        lambda self, **inputs: features(self, **inputs).pooler_output,
    )
    same = encoder(Embedding(model=str(tmp_path)))(PICTURES[:3])

    assert rows.shape == (3, 5)
    assert rows.tolist() == same.tolist()


def test_an_image_of_which_the_model_says_nothing_is_like_nothing(tmp_path: Path) -> None:
    path = traced(tmp_path / "dead.pt", lambda rows: rows * 0)

    assert encoder(config(path))(PICTURES[:2]).tolist() == [[0.0] * 6] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:, :, None], r"\(n, d\), got an output of shape \(2, 6, 1\)"),
        (lambda rows: rows[:1], r"\(n, d\), got an output of shape \(1, 6\) for 2 images"),
        (lambda rows: (rows, rows), r"\(n, d\), got a tuple for 2 images"),
        (lambda rows: rows * torch.inf, "finite numbers, got NaN or infinity"),
        (lambda rows: rows.reshape(2, 6) @ torch.zeros(6, 0), r"shape \(2, 0\)"),
    ],
)
def test_a_model_that_gives_no_vectors_is_refused(
    tmp_path: Path, change: Change, message: str
) -> None:
    path = traced(tmp_path / "encoder.pt", change)

    with pytest.raises(RecipeError, match=message):
        encoder(config(path))


def test_a_model_for_another_size_is_refused(script: Path) -> None:
    with pytest.raises(RecipeError, match="must embed any number of images of any shape"):
        encoder(Embedding(model=str(script), size_px=2))


def test_what_is_no_model_is_refused(tmp_path: Path, script: Path) -> None:
    names = ("a.txt", "weights.pt", "damaged.pt", "hollow.pt")
    text, weights, damaged, hollow = (tmp_path / name for name in names)
    text.write_text("no model")
    torch.save(Network().state_dict(), weights)
    damaged.write_bytes(script.read_bytes()[: script.stat().st_size // 2])
    with zipfile.ZipFile(hollow, "w") as archive:
        archive.writestr("encoder/constants.pkl", b"")
    refused = "embedding.model must be a file of TorchScript or of torch.export, got "

    told = "not a zip file", "no network", "zip file", "version"
    for path, found in zip((text, weights, damaged, hollow), told, strict=True):
        with pytest.raises(RecipeError, match=f"{re.escape(refused)}.*{found}"):
            encoder(config(path))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="must be an image model of transformers"):
        encoder(config(tmp_path))


def test_a_folder_that_lacks_weights_is_refused(tmp_path: Path, vit: Path) -> None:
    shutil.copytree(vit, tmp_path / "vit")
    longer = transformers.ViTConfig(**VIT | {"num_hidden_layers": 2})
    longer.save_pretrained(tmp_path / "vit")

    with pytest.raises(
        RecipeError, match=r"must hold all its weights, got .* without .*layers?\.1"
    ):
        encoder(config(tmp_path / "vit"))
