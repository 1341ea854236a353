"""Pixels: those of BLIP's own processor, and windows of them to train on."""

import numpy as np
import pytest
from PIL import Image

from tests.recaption.drawings import drawing, encoded

torch = pytest.importorskip("torch", reason="needs the extra recaption")
transformers = pytest.importorskip("transformers", reason="needs the extra recaption")

from recaption.pixels import crop  # noqa: E402  # it needs torch, too
from tests.recaption.squares import read_pixels, read_squares  # noqa: E402

PICTURES = [drawing(0), drawing(1, (30, 70)), drawing(2, (100, 20)).convert("L")]


def test_pixels_are_those_of_blips_processor() -> None:
    blip = transformers.BlipImageProcessorPil(size={"height": 48, "width": 48})

    pixels = read_pixels([encoded(picture) for picture in PICTURES], 48)

    theirs = blip(images=[p.convert("RGB") for p in PICTURES], return_tensors="pt").pixel_values
    assert pixels.dtype == torch.float32
    assert pixels.shape == (3, 3, 48, 48)
    assert torch.allclose(pixels, theirs, atol=1e-5)


def test_the_colours_are_shifted_and_scaled_as_told() -> None:
    red = encoded(Image.new("RGB", (8, 8), (255, 0, 51)))

    pixels = read_pixels([red], 4, mean=(0.5, 0, 0.1), std=(0.5, 1, 0.1))

    assert torch.allclose(pixels[0, :, 0, 0], torch.tensor([1.0, 0.0, 1.0]), atol=1e-6)
    assert read_pixels([], 4).shape == (0, 3, 4, 4)


def test_a_window_is_cut_and_stretched_as_pillow_does_it() -> None:
    squares = read_squares([encoded(drawing(3, (32, 32)))] * 4, 32)
    ramp = torch.arange(32.0).expand(1, 32, 32)
    places = torch.cat([ramp, ramp.mT, ramp * 0])[None].expand(4, -1, -1, -1)

    windows = crop(squares, 0.5, torch.Generator().manual_seed(5))
    where = crop(places, 0.5, torch.Generator().manual_seed(5))

    for window, at in zip(windows, where, strict=True):
        step_x, step_y = (at[0, 9, 20] - at[0, 9, 10]) / 10, (at[1, 20, 9] - at[1, 10, 9]) / 10
        left, top = at[0, 9, 10] - 10.5 * step_x + 0.5, at[1, 10, 9] - 10.5 * step_y + 0.5
        edges = (left, top, left + 32 * step_x, top + 32 * step_y)
        box = [min(max(float(edge), 0), 32) for edge in edges]
        picture = Image.fromarray(squares[0].permute(1, 2, 0).numpy())
        cut = picture.resize((32, 32), Image.Resampling.BILINEAR, box=box)
        ours = window.permute(1, 2, 0).numpy()
        assert np.abs(ours - np.asarray(cut)).max() < 3
        assert 0.5 <= float(step_x * step_y) <= 1
    assert len({tuple(at[:, 16, 16].tolist()) for at in where}) == 4


def test_at_a_share_of_one_nothing_is_cut() -> None:
    squares = read_squares([encoded(picture) for picture in PICTURES], 16)

    assert torch.equal(crop(squares, 1, torch.Generator()), squares.float())
