"""The built-in captioner and scorer, from bytes to captions and scores."""

import io
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from filters.rule import RecipeError
from recaption.captioner import Caption, Captioner, Score, Scorer
from recaption.config import Decode

torch = pytest.importorskip("torch", reason="needs the extra recaption")
transformers = pytest.importorskip("transformers", reason="needs the extra recaption")

from recaption import builtin  # noqa: E402  # needs torch
from recaption.builtin import BlipCaptioner, BlipScorer  # noqa: E402
from recaption.weights import Package, save_model  # noqa: E402
from tests.recaption import published, tiny  # noqa: E402
from tests.recaption.squares import read_pixels  # noqa: E402

COLOURS = ("red", "green", "blue", "white", "black", "grey", "orange")
KEYS = [f"{place:09}" for place in range(len(COLOURS))]
TEXTS = [["a b", "c"], [], ["d d d d d d d d d d"], ["e", "f", "g"], ["h"], [""], ["!?"]]
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def picture(colour: str) -> bytes:
    sink = io.BytesIO()
    image = Image.new("RGB", (40, 30), colour)
    image.paste("yellow", (5, 5, 15, 25))
    image.save(sink, "PNG")
    return sink.getvalue()


IMAGES = [picture(colour) for colour in COLOURS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a model folder."""
    path = tmp_path_factory.mktemp("model")
    model = tiny.blip(seed=4)
    package = Package(model=model, vocabulary=published.TOKENS, mean=MEAN, std=STD, origin="here")
    save_model(path, package)
    return str(path)


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def decode(**settings: Any) -> Decode:
    return Decode(**({"min_tokens": 2, "max_tokens": 8} | settings))


@pytest.mark.parametrize(
    "how", [{"strategy": "greedy"}, {"candidates": 3}, {"strategy": "beam", "candidates": 2}]
)
def test_a_caption_does_not_depend_on_what_shares_its_batch(
    how: dict[str, Any], folder: str
) -> None:
    captioner = BlipCaptioner(folder, decode(**how), batch=3)

    together = captioner.caption(IMAGES, KEYS)

    alone = [captioner.caption([image], [key])[0] for image, key in zip(IMAGES, KEYS, strict=True)]
    assert [[c.text for c in captions] for captions in together] == [
        [c.text for c in captions] for captions in alone
    ]
    assert {len(captions) for captions in together} == {how.get("candidates", 1)}
    assert [c.draw for c in together[0]] == list(range(how.get("candidates", 1)))
    assert all(c.text and c.failure is None and c.logprob < 0 for one in together for c in one)


def test_the_captioner_writes_what_transformers_writes_after_a_prompt(tmp_path: Path) -> None:
    theirs = published.write(tmp_path, "BlipForConditionalGeneration", seed=4)
    captioner = BlipCaptioner(
        str(tmp_path), decode(strategy="beam", prompt="b c", min_tokens=0), batch=3
    )

    found = captioner.caption(IMAGES, KEYS)

    ids = [published.TOKENS.index(token) for token in ("[DEC]", "b", "c", "[SEP]")]
    written = theirs.generate(
        pixel_values=read_pixels(IMAGES, 24, MEAN, STD),
        input_ids=torch.tensor([ids] * len(IMAGES)),
        max_new_tokens=8,
        num_beams=3,
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    expected = [
        tokenizer.decode([one for one in row[3:] if one > tiny.ENC]) for row in written.tolist()
    ]
    assert [captions[0].text for captions in found] == expected
    assert len(set(expected)) > 1


def test_an_image_that_cannot_be_read_fails_alone(folder: str) -> None:
    images = [IMAGES[0], b"no image", IMAGES[1][:60], IMAGES[2]]
    captioner, scorer = BlipCaptioner(folder, decode(candidates=2)), BlipScorer(folder)

    captions = captioner.caption(images, KEYS[:4])
    scores = scorer.score(images, [["a", "b"]] * 4)

    assert (
        captions[1]
        == captions[2]
        == [Caption("", draw, failure="undecodable") for draw in range(2)]
    )
    [alone] = captioner.caption([IMAGES[2]], [KEYS[3]])
    assert [one.text for one in captions[3]] == [one.text for one in alone]
    assert [[math.isnan(one.itm) for one in some] for some in scores] == [
        [False, False],
        [True, True],
        [True, True],
        [False, False],
    ]


def test_a_batch_of_which_no_image_can_be_read_fails(folder: str) -> None:
    captioner = BlipCaptioner(folder, decode(), batch=2)

    captions = captioner.caption([b"", b"GIF89a", IMAGES[0]], KEYS[:3])

    assert [one.failure for [one] in captions] == ["undecodable", "undecodable", None]


def test_an_image_that_the_model_fails_on_fails_alone(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = BlipCaptioner(folder, decode())
    expected, true_write = captioner.caption(IMAGES[:4], KEYS[:4]), builtin.generate

    def generate(model: Any, states: Any, keys: list[str], *rest: Any) -> Any:
        if KEYS[1] in keys:
            raise RuntimeError("CUDA error")
        if KEYS[2] in keys:
            raise torch.OutOfMemoryError
        return true_write(model, states, keys, *rest)

    monkeypatch.setattr(builtin, "generate", generate)
    captions = captioner.caption(IMAGES[:4], KEYS[:4])

    assert [one.failure for [one] in captions] == [None, "model_error", "out_of_memory", None]
    assert [captions[place][0].text for place in (0, 3)] == [
        expected[place][0].text for place in (0, 3)
    ]


def test_what_is_empty_is_a_failure(tmp_path: Path) -> None:
    model = tiny.blip()
    model.word_head.bias[tiny.SEP] += 1e4
    save_model(tmp_path, Package(model=model, vocabulary=published.TOKENS))

    [[caption]] = BlipCaptioner(str(tmp_path), decode(min_tokens=0)).caption(IMAGES[:1], KEYS[:1])

    assert caption == Caption("", 0, pytest.approx(0.0), 0, "stop", "empty")


def test_reading_by_threads_leaves_pillows_settings_as_they_were(folder: str) -> None:
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)

    BlipCaptioner(folder, decode(), batch=2).caption(IMAGES, KEYS)

    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == (limit, filters)


def test_no_images_no_answers(folder: str) -> None:
    assert BlipCaptioner(folder, decode()).caption([], []) == []
    assert BlipScorer(folder).score([], []) == []
    assert BlipScorer(folder).score(IMAGES[:1], [[]]) == [[]]


def test_a_score_is_the_models_own_for_one_image_and_one_text(folder: str) -> None:
    scorer = BlipScorer(folder, batch=3)
    model, specials = tiny.blip(seed=4), scorer._reader.tokenizer.specials  # noqa: SLF001

    scores = scorer.score(IMAGES, TEXTS)

    for image, texts, found in zip(IMAGES, TEXTS, scores, strict=True):
        assert len(found) == len(texts)
        states = model.encode_image(read_pixels([image], 24, MEAN, STD))
        for text, score in zip(texts, found, strict=True):
            ids, mask = map(torch.from_numpy, scorer._reader.tokenizer.encode([text]))  # noqa: SLF001
            cosine = (model.encode_text(ids, mask) * model.project_image(states)).sum()
            ids[:, 0] = specials.enc
            matched = model.match(ids, mask, states).softmax(-1)[0, 1]
            assert score == Score(
                pytest.approx(cosine.item(), abs=1e-5), pytest.approx(matched.item(), abs=1e-5)
            )


def test_the_spec_says_what_it_was_in_plain_values(folder: str) -> None:
    captioner: Captioner = BlipCaptioner(folder, decode(prompt="a"))
    scorer: Scorer = BlipScorer(folder)

    spec = json.loads(json.dumps(captioner.spec))
    assert spec == captioner.spec
    assert spec["captioner"] == f"blip:{folder}"
    assert scorer.spec["scorer"] == f"blip:{folder}"
    assert spec["weights_sha256"] == scorer.spec["weights_sha256"]
    assert spec["decode"]["top_p"] == 0.9
    assert spec["preprocess"]["mean"] == list(MEAN)
    assert (spec["dtype"], spec["device"], spec["revision"]) == ("float32", "cpu", "here")


def test_a_model_without_the_part_is_refused(tmp_path: Path) -> None:
    for part, other in (("encoder", BlipCaptioner), ("decoder", BlipScorer)):
        model = tiny.blip(**{"encoder": False, "decoder": False} | {part: True})
        save_model(tmp_path, Package(model=model, vocabulary=published.TOKENS))
        arguments = (decode(),) if other is BlipCaptioner else ()

        with pytest.raises(RecipeError, match=r"must have a text (en|de)coder, got .* without"):
            other(str(tmp_path), *arguments)


def test_a_prompt_that_leaves_no_room_is_refused_before_any_image(folder: str) -> None:
    with pytest.raises(RecipeError, match=r"decode\.max_tokens must be at most 6 after 11"):
        BlipCaptioner(folder, decode(prompt="a b c d e f g h i j"))
