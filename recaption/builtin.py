"""Caption and judge with BLIP: bytes of images in; captions, or scores of texts, out.

Images are read by threads, the next batch while the model works on this one.  One that fails, fails
alone: where a batch cannot be done, its images are tried one by one.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
import PIL
import torch

from filters.rule import RecipeError
from recaption.captioner import Caption, Score
from recaption.config import Decode
from recaption.decoding import Written, generate
from recaption.packing import pack
from recaption.pixels import read_square, scale_colours
from recaption.weights import open_model
from recaption.wordpiece import Tokenizer

BATCH = 32
"""Images at once on a CPU, where more are no faster."""
GPU_BATCH = 256
LENGTH_STEP = 8
"""Texts are padded to a multiple of so many tokens, so that few shapes occur."""

_Done = TypeVar("_Done")
_Do = Callable[[torch.Tensor, list[int]], Sequence[_Done]]


class _Reader:
    """A model on its device, with what it needs to look at images."""

    def __init__(self, source: str, part: str, device: str, batch: int) -> None:
        package = open_model(source)
        if part not in package.model.config.parts:
            raise RecipeError(
                f"a {'captioner' if part == 'decoder' else 'scorer'} must have a text {part}, got "
                f"{source} without; name a model that was trained for it"
            )
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        gpu = self.device.type == "cuda"
        self.dtype = torch.bfloat16 if gpu else torch.float32
        self.model = package.model.to(self.device, self.dtype)
        if not gpu:
            pack(self.model)
        self.batch = batch or (GPU_BATCH if gpu else BATCH)
        self.tokenizer = Tokenizer(package.vocabulary, package.model.config.max_tokens)
        self._package = package
        self._threads = ThreadPoolExecutor(os.cpu_count())

    def spec(self) -> dict[str, Any]:
        """Return what the images and the model are, for the provenance."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {
            "revision": self._package.origin,
            "weights_sha256": self._package.digest,
            "tokenizer_sha256": self.tokenizer.digest,
            "preprocess": self._package.preprocess,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": name,
            "versions": {"torch": torch.__version__, "pillow": PIL.__version__},
        }

    def look(self, images: Sequence[bytes], do: _Do[_Done]) -> Iterator[tuple[int, _Done | str]]:
        """Do something with the states of images, (b, 1 + patches, width), and with their places.

        Yields:
            An image's place, and what was done, or the name of its failure.
        """
        for places, squares in self._read_ahead(images):
            seen = {at: one for at, one in zip(places, squares, strict=True) if one is not None}
            yield from ((place, "undecodable") for place in places if place not in seen)
            yield from zip(seen, self._done(list(seen.values()), list(seen), do), strict=True)

    def _done(
        self,
        squares: list[Any],
        places: list[int],
        do: _Do[_Done],
    ) -> Sequence[_Done | str]:
        if not squares:
            return []
        try:
            with torch.inference_mode():
                pixels = torch.from_numpy(np.stack(squares)).to(self.device, non_blocking=True)
                pixels = scale_colours(pixels, self._package.mean, self._package.std)
                return do(self.model.encode_image(pixels.to(self.dtype)), places)
        except RuntimeError as error:  # torch's, out of memory too
            if len(squares) == 1:
                lacks_room = isinstance(error, torch.OutOfMemoryError)
                return ["out_of_memory" if lacks_room else "model_error"]
        alone = (self._done([one], [at], do)[0] for one, at in zip(squares, places, strict=True))
        return list(alone)

    def _read_ahead(self, images: Sequence[bytes]) -> Iterator[tuple[list[int], list[Any]]]:
        """Yield places and squares; None for what cannot be read."""
        waiting: list[tuple[list[int], list[Future[Any]]]] = []
        for first in range(0, len(images), self.batch):
            places = list(range(first, min(first + self.batch, len(images))))
            reading = [self._threads.submit(self._read, images[place]) for place in places]
            waiting.append((places, reading))
            if len(waiting) == 2:
                yield _collected(*waiting.pop(0))
        for last in waiting:
            yield _collected(*last)

    def _read(self, image: bytes) -> Any:
        try:
            return read_square(image, self.model.config.image_px)
        except Exception:  # Pillow raises far more than OSError
            return None


def _collected(places: list[int], reading: list[Future[Any]]) -> tuple[list[int], list[Any]]:
    return places, [one.result() for one in reading]


class BlipCaptioner:
    """Write captions with a model folder's decoder, or a published BLIP's; a `Captioner`.

    Args:
        source: A folder, or a hub id.
        decode: How captions are written.
        device: Of torch; empty for the GPU where there is one, which computes in bfloat16.
        batch: Images at once; 0 for what suits the device.

    Raises:
        RecipeError: The model cannot be loaded, has no decoder, or cannot write so long captions.
    """

    def __init__(self, source: str, decode: Decode, device: str = "", batch: int = 0) -> None:
        self._reader = _Reader(source, "decoder", device, batch)
        self._decode = decode
        ids, mask = self._reader.tokenizer.encode([decode.prompt])
        prompt = ids[0, 1 : mask[0].sum() - 1].tolist()
        self._begin = [self._reader.tokenizer.specials.dec, *prompt]
        self._write(torch.zeros(0), [])  # to see whether there is room
        self.spec = {
            "captioner": f"blip:{source}",
            **self._reader.spec(),
            "decode": asdict(decode),
            "prompt": decode.prompt,
        }

    def caption(self, images: Sequence[bytes], keys: Sequence[str]) -> list[list[Caption]]:
        """As `Captioner.caption`."""
        captions = [[Caption("", 0)]] * len(images)

        def write(states: torch.Tensor, places: list[int]) -> list[list[Written]]:
            return self._write(states, [keys[place] for place in places])

        for place, written in self._reader.look(images, write):
            captions[place] = (
                self._failed(written)
                if isinstance(written, str)
                else [self._caption(one, draw) for draw, one in enumerate(written)]
            )
        return captions

    def _write(self, states: torch.Tensor, keys: list[str]) -> list[list[Written]]:
        reader = self._reader
        end = reader.tokenizer.specials.sep
        return generate(reader.model, states, keys, self._decode, self._begin, end)

    def _caption(self, written: Written, draw: int) -> Caption:
        text = self._reader.tokenizer.decode(written.tokens)
        count, failure = len(written.tokens), None if text else "empty"
        return Caption(text, draw, written.logprob, count, written.finish, failure)

    def _failed(self, failure: str) -> list[Caption]:
        draws = range(self._decode.candidates)
        return [Caption("", draw, failure=failure) for draw in draws]


class BlipScorer:
    """Judge texts with a model folder's encoder, or a published BLIP's; a `Scorer`.

    Args and errors are those of `BlipCaptioner`.
    """

    def __init__(self, source: str, device: str = "", batch: int = 0) -> None:
        self._reader = _Reader(source, "encoder", device, batch)
        self.spec = {"scorer": f"blip:{source}", **self._reader.spec()}

    def score(self, images: Sequence[bytes], texts: Sequence[Sequence[str]]) -> list[list[Score]]:
        """As `Scorer.score`; NaN for what an image that fails cannot be told about."""
        scores = [[Score(np.nan, np.nan)] * len(some) for some in texts]

        def judge(states: torch.Tensor, places: list[int]) -> list[list[Score]]:
            return self._judge(states, [texts[place] for place in places])

        for place, judged in self._reader.look(images, judge):
            if not isinstance(judged, str):
                scores[place] = judged
        return scores

    def _judge(self, states: torch.Tensor, texts: list[Sequence[str]]) -> list[list[Score]]:
        """Judge as many texts of each image as one has at most; those made up are left out."""
        most = max(map(len, texts))
        if not most:
            return [[] for _ in texts]
        ids, mask = self._encoded([one for some in texts for one in _filled(some, most)])
        model, specials = self._reader.model, self._reader.tokenizer.specials
        vectors = model.encode_text(ids, mask).view(len(texts), most, -1)
        cosines = (vectors @ model.project_image(states)[..., None])[..., 0]
        ids[:, 0] = specials.enc
        matched = model.match(ids, mask, states).softmax(-1)[:, 1].view(len(texts), most)
        return [
            [Score(*pair) for pair in zip(itc[: len(some)], itm[: len(some)], strict=True)]
            for some, itc, itm in zip(texts, cosines.tolist(), matched.tolist(), strict=True)
        ]

    def _encoded(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and mask, no longer than the longest text asks for."""
        ids, mask = self._reader.tokenizer.encode(texts)
        longest = -(-int(mask.sum(1).max()) // LENGTH_STEP) * LENGTH_STEP
        both = (torch.from_numpy(one[:, :longest]) for one in (ids, mask))
        found, seen = (one.to(self._reader.device, non_blocking=True) for one in both)
        return found, seen


def _filled(texts: Sequence[str], count: int) -> list[str]:
    return [*texts, *[""] * (count - len(texts))]
