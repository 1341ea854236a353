"""Any image-text-to-text model of transformers: chosen tokens, and what goes wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from filters.rule import RecipeError
from recaption.captioner import Caption, open_captioner
from recaption.config import Decode
from recaption.pictures import read_rgb
from tests.recaption.drawings import drawing, encoded

torch = pytest.importorskip("torch", reason="needs the extra recaption")
transformers = pytest.importorskip("transformers", reason="needs the extra recaption")

from recaption.decoding import uniforms  # noqa: E402  # torch
from recaption.hub import HubCaptioner  # noqa: E402  # torch
from tests.recaption import tiny_models  # noqa: E402  # torch

FAMILIES = ("blip", "llava", "idefics")
NUCLEUS = Decode(candidates=2, min_tokens=0)
GREEDY = Decode(strategy="greedy", min_tokens=0)
BEAM = Decode(strategy="beam", candidates=2, min_tokens=0)
IMAGES = [encoded(drawing(seed, size)) for seed, size in enumerate([(40, 30), (90, 20), (30, 30)])]
KEYS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model of each family; not to be changed."""
    folder = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        getattr(tiny_models, f"write_{family}")(folder / family)
    return folder


def flat(captions: list[list[Caption]]) -> list[Caption]:
    return [caption for some in captions for caption in some]


def texts(captions: list[list[Caption]]) -> list[list[str]]:
    return [[caption.text for caption in some] for some in captions]


@pytest.mark.parametrize("decode", [NUCLEUS, GREEDY, BEAM], ids=lambda decode: decode.strategy)
@pytest.mark.parametrize("family", FAMILIES)
def test_captions_do_not_depend_on_the_batch(models: Path, family: str, decode: Decode) -> None:
    captioner = HubCaptioner(f"hf:{models / family}", decode)

    together = captioner.caption(IMAGES, KEYS)
    alone = [captioner.caption([i], [k])[0] for i, k in zip(IMAGES, KEYS, strict=True)]
    turned = captioner.caption(IMAGES[::-1], KEYS[::-1])

    assert texts(together) == texts(alone) == texts(turned)[::-1]
    for one, other in zip(flat(together), flat(alone), strict=True):
        assert replace(one, logprob=None) == replace(other, logprob=None)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    assert [caption.draw for caption in together[0]] == list(range(decode.candidates))


@pytest.mark.parametrize("decode", [GREEDY, BEAM], ids=lambda decode: decode.strategy)
@pytest.mark.parametrize("prompt", ["", "a picture of"])
def test_blip_writes_as_it_does_in_transformers(models: Path, decode: Decode, prompt: str) -> None:
    model: Any = transformers.BlipForConditionalGeneration.from_pretrained(models / "blip")
    processor: Any = transformers.BlipProcessor.from_pretrained(models / "blip")
    inputs = processor(images=read_rgb(IMAGES[0]), text=prompt or None, return_tensors="pt")
    beams = decode.beams if decode.strategy == "beam" else 1
    options = {"max_new_tokens": 20, "do_sample": False, "num_beams": beams}

    rows = model.generate(**inputs, **options, num_return_sequences=decode.candidates)
    captioner = HubCaptioner(f"hf:{models / 'blip'}", replace(decode, prompt=prompt))
    [captions] = captioner.caption(IMAGES[:1], KEYS[:1])

    whole = processor.batch_decode(rows, skip_special_tokens=True)
    assert [f"{prompt} {caption.text}".strip() for caption in captions] == whole


@pytest.mark.parametrize("family", ["llava", "idefics"])
def test_a_chat_is_answered_as_in_transformers(models: Path, family: str) -> None:
    model: Any = transformers.AutoModelForImageTextToText.from_pretrained(models / family)
    processor: Any = transformers.AutoProcessor.from_pretrained(models / family)
    prompt = "USER : <image> in one ASSISTANT :"
    inputs = processor(text=prompt, images=read_rgb(IMAGES[1]), return_tensors="pt")

    row = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0]
    captioner = HubCaptioner(f"hf:{models / family}", replace(GREEDY, prompt="in one"))
    [[caption]] = captioner.caption(IMAGES[1:2], ["a"])

    written = processor.tokenizer.decode(row[inputs["input_ids"].shape[1] :])
    assert [word for word in written.split() if word[0] != "<"] == caption.text.split()


def test_a_sample_is_what_a_plain_loop_draws(models: Path) -> None:
    model: Any = transformers.BlipForConditionalGeneration.from_pretrained(models / "blip")
    processor: Any = transformers.BlipProcessor.from_pretrained(models / "blip")
    decode = Decode(seed=7, top_p=0.8, temperature=1.5, min_tokens=0, max_tokens=9)
    pixels = processor(images=read_rgb(IMAGES[0]), return_tensors="pt")["pixel_values"]
    states = model.vision_model(pixels)[0]

    ids, logprob = [5], 0.0
    for drawn in uniforms(7, ["key"], 1, 9)[0]:
        with torch.inference_mode():
            rows = torch.tensor([ids])
            logits = model.text_decoder(rows, encoder_hidden_states=states).logits[0, -1].double()
        likely = (logits / 1.5).softmax(-1).numpy()
        order = np.argsort(-likely)
        nucleus = order[: np.searchsorted(likely[order].cumsum(), 0.8) + 1]
        share = likely[nucleus].cumsum() / likely[nucleus].sum()
        ids.append(int(nucleus[np.searchsorted(share, drawn, side="right")]))
        logprob += float(logits.log_softmax(-1)[ids[-1]])
        if ids[-1] == 3:
            break
    [[caption]] = HubCaptioner(f"hf:{models / 'blip'}", decode).caption(IMAGES[:1], ["key"])

    assert caption.text == processor.decode(ids, skip_special_tokens=True)
    assert caption.logprob == pytest.approx(logprob, abs=1e-4)
    assert (caption.finish == "stop") == (ids[-1] == 3)
    assert caption.tokens == len(ids) - 1 - (ids[-1] == 3)


def test_seed_key_and_draw_all_matter(models: Path) -> None:
    name, image = f"hf:{models / 'llava'}", IMAGES[0]
    captions = HubCaptioner(name, NUCLEUS).caption([image, image], ["a", "b"])
    others = HubCaptioner(name, replace(NUCLEUS, seed=1)).caption([image], ["a"])

    assert len({caption.text for caption in flat(captions + others)}) == 6


def test_what_a_model_says_of_its_generation_changes_nothing(models: Path, tmp_path: Path) -> None:
    tiny_models.write_llava(tmp_path / "llava")
    told = {"num_beams": 4, "top_k": 1, "temperature": 0.1, "do_sample": True, "max_length": 3}
    path = tmp_path / "llava" / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | told))

    captions = HubCaptioner(f"hf:{tmp_path / 'llava'}", NUCLEUS).caption(IMAGES, KEYS)

    plain = HubCaptioner(f"hf:{models / 'llava'}", NUCLEUS).caption(IMAGES, KEYS)
    assert captions == plain


def test_captions_have_as_many_tokens_as_they_must(models: Path) -> None:
    decode = Decode(candidates=300, min_tokens=4, max_tokens=6)
    [captions] = HubCaptioner(f"hf:{models / 'blip'}", decode).caption(IMAGES[:1], KEYS[:1])

    assert {caption.tokens for caption in captions} == {4, 5, 6}
    assert {c.finish for c in captions if c.tokens == 6} == {"length"}
    assert {c.finish for c in captions if c.tokens != 6} == {"stop"}


def test_an_image_that_fails_fails_alone(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captioner = HubCaptioner(f"hf:{models / 'blip'}", GREEDY)
    plain = captioner.caption(IMAGES, KEYS)
    _spoil(monkeypatch, lambda pictures: any(picture.size == (90, 20) for picture in pictures))

    captions = captioner.caption([IMAGES[0][:50], *IMAGES], ["x", *KEYS])

    assert [some[0].failure for some in captions] == ["undecodable", None, "model_error", None]
    assert texts([captions[1], captions[3]]) == texts([plain[0], plain[2]])


def _spoil(monkeypatch: pytest.MonkeyPatch, bad: Callable[[list[Any]], bool]) -> None:
    """Let BLIP's processor fail on some pictures."""
    call = transformers.BlipProcessor.__call__

    def spoilt(self: Any, images: Any = None, **options: Any) -> Any:
        if bad(images):
            raise ValueError("absolute aspect ratio must be smaller")
        return call(self, images=images, **options)

    monkeypatch.setattr(transformers.BlipProcessor, "__call__", spoilt)


def test_a_batch_without_room_is_halved_from_then_on(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = HubCaptioner(f"hf:{models / 'blip'}", GREEDY, batch=8)
    plain = captioner.caption(IMAGES[:1] * 12, ["a"] * 12)
    sizes = _cramp(monkeypatch, lambda pixels: len(pixels) > 2)

    captions = captioner.caption(IMAGES[:1] * 12, ["a"] * 12)

    assert texts(captions) == texts(plain)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2]


def test_an_image_without_room_fails_alone_and_slows_nothing(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = HubCaptioner(f"hf:{models / 'blip'}", GREEDY, batch=3)
    plain = captioner.caption(IMAGES * 2, KEYS * 2)
    white = encoded(Image.new("RGB", (40, 40), "white"))
    sizes = _cramp(monkeypatch, lambda pixels: bool((pixels[:, 0].amin((1, 2)) > 1.9).any()))

    captions = captioner.caption([IMAGES[0], white, IMAGES[2], *IMAGES], KEYS * 2)

    assert captions[1] == [Caption("", 0, failure="out_of_memory")]
    assert texts(captions[:1] + captions[2:]) == texts(plain[:1] + plain[2:])
    assert sizes == [3, 2, 1, 1, 1, 3]


def _cramp(monkeypatch: pytest.MonkeyPatch, full: Callable[[Any], bool]) -> list[int]:
    """Let BLIP run out of memory, and return the sizes of the batches that it is given."""
    sizes: list[int] = []
    generate = transformers.BlipForConditionalGeneration.generate

    def cramped(self: Any, pixel_values: Any, **options: Any) -> Any:
        sizes.append(len(pixel_values))
        if full(pixel_values):
            raise torch.OutOfMemoryError
        return generate(self, pixel_values=pixel_values, **options)

    monkeypatch.setattr(transformers.BlipForConditionalGeneration, "generate", cramped)
    return sizes


def test_a_device_that_is_lost_is_no_images_fault(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = HubCaptioner(f"hf:{models / 'blip'}", GREEDY)

    def lose(*_: Any, **__: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(transformers.BlipForConditionalGeneration, "generate", lose)
    with pytest.raises(torch.AcceleratorError):
        captioner.caption(IMAGES, KEYS)


def test_all_that_made_a_caption_is_told(models: Path, tmp_path: Path) -> None:
    tiny_models.write_llava(tmp_path / "llava", tiny_models.CHAT + " ")
    spec = HubCaptioner(f"hf:{models / 'llava'}", NUCLEUS).spec
    other = HubCaptioner(f"hf:{tmp_path / 'llava'}", NUCLEUS).spec

    assert json.loads(json.dumps(spec)) == spec
    assert spec["weights_sha256"] == other["weights_sha256"]
    assert spec["prompt"] == "Describe this image in one sentence."
    assert spec["dtype"] == "float32"
    assert spec["preprocess"]["size"] == {"shortest_edge": 16}


@pytest.mark.parametrize("decode", [NUCLEUS, GREEDY, BEAM], ids=lambda decode: decode.strategy)
def test_the_built_in_model_writes_the_same_with_the_same_weights(
    models: Path, decode: Decode
) -> None:
    ours = open_captioner(f"blip:{models / 'blip'}", decode).caption(IMAGES, KEYS)
    theirs = open_captioner(f"hf:{models / 'blip'}", decode).caption(IMAGES, KEYS)

    for one, other in zip(flat(ours), flat(theirs), strict=True):
        assert replace(one, logprob=None) == replace(other, logprob=None)
        assert other.logprob in (None, pytest.approx(one.logprob, abs=1e-3))


def test_an_opened_captioner_is_checked(models: Path) -> None:
    captioner = open_captioner(f"hf:{models / 'llava'}", NUCLEUS)

    assert captioner.spec["bounds"]["max_chars"] == 1000
    assert len(captioner.caption(IMAGES, KEYS)) == 3


def test_a_model_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    rule = r"^captioner must be an image-text-to-text model, got hf:.*; correct the name, or down"

    for name in (f"hf:{tmp_path}", "hf:nobody/nothing", f"hf:{tmp_path / 'none'}", "hf:a/b@main"):
        with pytest.raises(RecipeError, match=rule):
            HubCaptioner(name, GREEDY)


def test_a_model_of_another_kind_is_refused(models: Path, tmp_path: Path) -> None:
    blip = models / "blip"
    transformers.BlipProcessor.from_pretrained(blip).save_pretrained(tmp_path)
    transformers.ViTModel(transformers.ViTConfig(**_TINY)).save_pretrained(tmp_path)

    with pytest.raises(RecipeError, match="must be an image-text-to-text model"):
        HubCaptioner(f"hf:{tmp_path}", GREEDY)


_TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def test_a_model_without_all_its_weights_is_refused(models: Path, tmp_path: Path) -> None:
    blip = transformers.BlipForConditionalGeneration.from_pretrained(models / "blip")
    states = blip.state_dict()
    states = {name: state for name, state in states.items() if "crossattention" not in name}
    transformers.BlipProcessor.from_pretrained(models / "blip").save_pretrained(tmp_path)
    blip.save_pretrained(tmp_path, state_dict=states)

    with pytest.raises(RecipeError, match=r"must hold all its weights, got .* without text_dec"):
        HubCaptioner(f"hf:{tmp_path}", GREEDY)


def test_a_model_whose_chat_lacks_the_image_is_refused(tmp_path: Path) -> None:
    tiny_models.write_llava(tmp_path / "llava", "USER : ASSISTANT :")

    with pytest.raises(RecipeError, match=r"captioner must caption an image, got hf:.*llava: "):
        HubCaptioner(f"hf:{tmp_path / 'llava'}", GREEDY)
