"""Caption with any image-text-to-text model of `transformers`, from a folder or by hub id."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import PIL
import torch
import transformers
from PIL import Image

from filters.rule import RecipeError
from recaption.captioner import INSTRUCTION, Caption, failed
from recaption.config import Decode
from recaption.decoding import Nucleus, uniforms
from recaption.pictures import read_rgb

BATCH = 8
"""Images at once on a CPU."""
GPU_BATCH = 64
"""Halved whenever the device has no room for it."""

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_DETERMINISM = (
    "sampling depends on seed, key and draw alone; images of a batch share matrix products, whose "
    "rounding, and padding where images differ in tokens, can turn a near tie"
)


class HubCaptioner:
    """Captions from any `AutoModelForImageTextToText`.

    A model with a chat template is told the prompt as its user's message; any other begins its
    caption with the prompt, if there is one.  Tokens are chosen here, by numbers that depend on the
    seed, the key, the draw and the token's place, so that a caption does not depend on its
    neighbours by chance; but `spec["determinism"]` says what does not hold to the last bit.

    A log probability is the sum over the tokens, the end's included, of what the model thought
    after repetition penalty and `min_tokens`, before temperature and nucleus; beam search has none.
    """

    def __init__(self, name: str, decode: Decode, device: str = "", batch: int = 0) -> None:
        """Load the model, and try it out on a grey square.

        Args:
            name: `hf:`, and a folder or a hub id, which `@` and a revision may follow.
            decode: How captions are written.
            device: Of torch; empty for the GPU where there is one, which computes in bfloat16.
            batch: Images at once; 0 for what suits the device.

        Raises:
            RecipeError: The model cannot be loaded, lacks weights, or cannot caption an image.
        """
        model, _, revision = name.removeprefix("hf:").partition("@")
        if Path(name.removeprefix("hf:")).is_dir():
            model, revision = name.removeprefix("hf:"), ""
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        gpu = self._device.type == "cuda"
        self._dtype = torch.bfloat16 if gpu else torch.float32
        self._batch, self._decode = batch or (GPU_BATCH if gpu else BATCH), decode
        self._processor, self._model = _loaded(name, model, revision or None, self._dtype)
        self._model.to(self._device).eval()
        self._tokenizer = getattr(self._processor, "tokenizer", self._processor)
        self._chats = bool(getattr(self._processor, "chat_template", None))
        self._ends = _ends(self._model, self._tokenizer)
        self.spec: Mapping[str, Any] = self._spec(name, model)
        if not self._model.config.is_encoder_decoder:
            self._tokenizer.padding_side = "left"  # so that what is written follows the prompt
        try:
            self._write([Image.new("RGB", (224, 224), "grey")], [""])
        except Exception as error:  # whatever a foreign network raises
            raise _refused(name, "must caption an image", error) from error

    def caption(self, images: Sequence[bytes], keys: Sequence[str]) -> list[list[Caption]]:
        """As `Captioner.caption`."""
        captions: list[list[Caption]] = []
        with ThreadPoolExecutor() as pool:
            while len(captions) < len(images):
                part = slice(len(captions), len(captions) + self._batch)
                captions += self._captions(list(pool.map(_picture, images[part])), keys[part])
        return captions

    def _captions(
        self, pictures: Sequence[Image.Image | None], keys: Sequence[str]
    ) -> list[list[Caption]]:
        """Caption those of the pictures that there are."""
        captions = [failed("undecodable", self._decode.candidates) for _ in pictures]
        before = self._batch
        seen = {place: picture for place, picture in enumerate(pictures) if picture}
        written = self._survive(list(seen.values()), [keys[place] for place in seen])
        for place, some in zip(seen, written, strict=True):
            captions[place] = some
        if any(some[0].failure == "out_of_memory" for some in captions):
            self._batch = before  # one image was too large, not the batch
        return captions

    def _survive(self, pictures: Sequence[Image.Image], keys: Sequence[str]) -> list[list[Caption]]:
        """Caption pictures; where a batch fails, its halves are tried, down to the one at fault."""
        if not pictures:
            return []
        half = (len(pictures) + 1) // 2
        if len(pictures) <= self._batch:
            try:
                return self._write(pictures, keys)
            except torch.OutOfMemoryError:
                self._batch, failure = half, "out_of_memory"
            except torch.AcceleratorError:
                raise  # the device is lost to this process, and with it every further image
            except Exception:  # whatever a foreign network raises
                failure = "model_error"
            if len(pictures) == 1:
                return [failed(failure, self._decode.candidates)]
        first = self._survive(pictures[:half], keys[:half])
        return first + self._survive(pictures[half:], keys[half:])

    def _write(self, pictures: Sequence[Image.Image], keys: Sequence[str]) -> list[list[Caption]]:
        """Caption pictures, or raise whatever the processor or the model does."""
        decode = self._decode
        choose = _Choose(decode, keys, self._device)
        beams = decode.strategy == "beam"
        with torch.inference_mode():
            ids = self._model.generate(
                **self._inputs(pictures).to(self._device, self._dtype),
                logits_processor=transformers.LogitsProcessorList([choose]),
                max_new_tokens=decode.max_tokens,
                min_new_tokens=decode.min_tokens,
                repetition_penalty=decode.repetition_penalty,
                num_return_sequences=decode.candidates,
                return_dict_in_generate=False,
                **({"num_beams": decode.beams, "do_sample": False} if beams else _SAMPLED),
            )
        rows = ids[:, choose.begun :].tolist()
        captions = [
            self._caption(row, at % decode.candidates, choose.gains(at))
            for at, row in enumerate(rows)
        ]
        return [
            captions[first : first + decode.candidates]
            for first in range(0, len(rows), decode.candidates)
        ]

    def _inputs(self, pictures: Sequence[Image.Image]) -> Any:
        """Return what the model reads."""
        prompt, options = self._decode.prompt, {"padding": True}
        if not self._chats:
            texts = [prompt] * len(pictures) if prompt else None
            options = options if texts else {}
            return self._processor(
                images=list(pictures), text=texts, return_tensors="pt", **options
            )
        told = {"type": "text", "text": prompt or INSTRUCTION}
        return self._processor.apply_chat_template(
            [
                [{"role": "user", "content": [{"type": "image", "image": picture}, told]}]
                for picture in pictures
            ],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        )

    def _caption(self, row: list[int], draw: int, gains: list[float]) -> Caption:
        """Return the caption that a row of token ids is, padded after its end."""
        count = next((at for at, token in enumerate(row) if token in self._ends), len(row))
        text = self._tokenizer.decode(row[:count], skip_special_tokens=True)
        logprob = sum(gains[: count + 1]) if gains else None
        finish = "stop" if count < len(row) else "length"
        return Caption(text, draw, logprob, count, finish, None if text else "empty")

    def _spec(self, name: str, model: str) -> dict[str, Any]:
        gpu = self._device.type == "cuda"
        prompt = self._decode.prompt
        fast = getattr(self._tokenizer, "backend_tokenizer", None)
        images = getattr(self._processor, "image_processor", None)
        return {
            "captioner": name,
            "revision": getattr(self._model.config, "_commit_hash", None),
            "weights_sha256": _digest(Path(model)) if Path(model).is_dir() else None,
            "tokenizer_sha256": hashlib.sha256(fast.to_str().encode()).hexdigest()
            if fast
            else None,
            "decode": asdict(self._decode),
            "prompt": prompt or (INSTRUCTION if self._chats else ""),
            "preprocess": json.loads(images.to_json_string()) if images else {},
            "dtype": str(self._dtype).removeprefix("torch."),
            "device": torch.cuda.get_device_name(self._device) if gpu else "cpu",
            "determinism": _DETERMINISM,
            "versions": {
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "pillow": PIL.__version__,
            },
        }


_SAMPLED = {"num_beams": 1, "do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
"""What a model's own generation config may say otherwise, where `_Choose` has chosen."""


class _Choose:
    """Leaves `generate` no token but the one chosen; as its last logits processor.

    So any model samples by our numbers, and what it thought of a token is known without keeping
    its logits, (rows, vocabulary), of every step.
    """

    def __init__(self, decode: Decode, keys: Sequence[str], device: torch.device) -> None:
        self.begun = -1
        """Tokens of the prompt as `generate` has them before what it writes."""
        self._gains: list[torch.Tensor] = []
        self._columns: list[list[float]] = []
        self._last = decode.max_tokens - 1
        drawn = uniforms(decode.seed, keys, decode.candidates, decode.max_tokens)
        nucleus = Nucleus(decode, torch.from_numpy(drawn).to(device))
        choices: dict[str, Callable[[torch.Tensor, int], torch.Tensor] | None]
        choices = {"nucleus": nucleus, "greedy": _likeliest, "beam": None}
        self._choice = choices[decode.strategy]

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores, (rows, vocabulary), of 0 for the chosen token and minus infinity."""
        if self.begun < 0:
            self.begun = ids.shape[1]
        if not self._choice:
            return scores
        token = self._choice(scores, min(len(self._gains), self._last))[:, None]
        self._gains.append((scores.gather(1, token) - scores.logsumexp(-1, keepdim=True))[:, 0])
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)

    def gains(self, row: int) -> list[float]:
        """Return the log probability of each token of a row; nothing where beams were searched."""
        if self._gains and not self._columns:
            self._columns = torch.stack(self._gains, 1).tolist()
        return self._columns[row] if self._columns else []


def _likeliest(scores: torch.Tensor, _: int) -> torch.Tensor:
    return scores.argmax(-1)


def _loaded(name: str, model: str, revision: str | None, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return the processor and the model that a name stands for."""
    options = {"revision": revision, "trust_remote_code": False}
    try:
        processor: Any = transformers.AutoProcessor.from_pretrained(model, **options)
        network, loading = transformers.AutoModelForImageTextToText.from_pretrained(
            model, dtype=dtype, output_loading_info=True, **options
        )
    except Exception as error:  # ImportError, KeyError and SafetensorError, too
        raise _refused(name, "must be an image-text-to-text model", error) from None
    if loading["missing_keys"]:
        raise RecipeError(
            f"captioner must hold all its weights, got {name} without "
            f"{min(loading['missing_keys'])}; name a checkpoint of the whole model"
        )
    return processor, network


def _ends(model: Any, tokenizer: Any) -> set[int]:
    """Return the ids of tokens that end a caption."""
    text = model.config.get_text_config(decoder=True)
    named = [getattr(model.generation_config, "eos_token_id", None)]
    named += [getattr(text, name, None) for name in ("eos_token_id", "sep_token_id")]
    named += [getattr(tokenizer, name, None) for name in ("eos_token_id", "sep_token_id")]
    lists = [one if isinstance(one, list) else [one] for one in named]
    return {token for one in lists for token in one if token is not None}


def _picture(image: bytes) -> Image.Image | None:
    try:
        return read_rgb(image)
    except Exception:  # Pillow raises far more than OSError
        return None


def _digest(folder: Path) -> str:
    """Return one digest of all files of weights in a folder."""
    lines = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in _WEIGHTS):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _refused(name: str, rule: str, error: Exception) -> RecipeError:
    told = (str(error).strip() or type(error).__name__).splitlines()[0]
    return RecipeError(
        f"captioner {rule}, got {name}: {told}; correct the name, or download the model first"
    )
