"""Writing captions, held against plain loops without a cache, and against transformers."""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filters.rule import RecipeError
from recaption.config import Decode

torch = pytest.importorskip("torch", reason="needs the extra recaption")
transformers = pytest.importorskip("transformers", reason="needs the extra recaption")

from recaption import decoding, writing  # noqa: E402  # needs torch
from recaption.decoding import Written, generate, uniforms  # noqa: E402
from recaption.weights import open_model  # noqa: E402
from tests.recaption import published, tiny  # noqa: E402

COUNT = 6
KEYS = [f"{place:09}" for place in range(COUNT)]
PROMPTS = ([tiny.DEC], [tiny.DEC, 9, 12])
GREEDY = {"strategy": "greedy"}
BEAM = {"strategy": "beam", "candidates": 2}
NUCLEUS = {"strategy": "nucleus", "candidates": 3, "seed": 7}


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model() -> Any:
    """Return a model of opinions that ends its captions now and then."""
    blip = tiny.blip(seed=4, scale=12.0, max_tokens=24)
    with torch.no_grad():
        blip.word_head.bias[tiny.SEP] += 1.5
    return blip


def decode(**settings: Any) -> Decode:
    return Decode(**({"min_tokens": 2, "max_tokens": 12} | settings))


def write(model: Any, how: Decode, begin: list[int] = PROMPTS[0], **part: Any) -> Any:
    """Write captions of all images, or of some `rows` of them."""
    rows = part.get("rows", range(COUNT))
    states = model.encode_image(tiny.pixels(COUNT)[list(rows)])
    return generate(model, states, [KEYS[row] for row in rows], how, begin, tiny.SEP)


@functools.cache
def plain_states(model: Any, row: int) -> Any:
    return model.encode_image(tiny.pixels(COUNT)[row : row + 1])


def plain_logprobs(model: Any, row: int, ids: list[int]) -> list[float]:
    """Return the logarithms of the next token's probabilities: no cache, one image, one text."""
    states = plain_states(model, row)
    mask = torch.ones(1, len(ids))
    found: list[float] = (
        model.logits(torch.tensor([ids]), mask, states)[0, -1].log_softmax(-1).tolist()
    )
    return found


def plain_walk(model: Any, row: int, how: Decode, begin: list[int], draw: int = -1) -> Written:
    """Write one caption, the likeliest tokens or a draw's."""
    ids, total = list(begin), 0.0
    while len(ids) - len(begin) < how.max_tokens:
        logprobs = plain_logprobs(model, row, ids)
        allowed = list(range(len(logprobs)))
        if len(ids) - len(begin) < how.min_tokens:
            allowed.remove(tiny.SEP)
        if draw < 0:
            token = max(allowed, key=lambda one: logprobs[one])
        else:
            u = uniforms(how.seed, [KEYS[row]], draw + 1, how.max_tokens)[draw]
            u = float(u[len(ids) - len(begin)])
            token = plain_nucleus({one: logprobs[one] for one in allowed}, how, u)
        total += logprobs[token]
        if token == tiny.SEP:
            return Written(ids[len(begin) :], pytest.approx(total, abs=1e-3), "stop")
        ids.append(token)
    return Written(ids[len(begin) :], pytest.approx(total, abs=1e-3), "length")


def plain_nucleus(logprobs: dict[int, float], how: Decode, u: float) -> int:
    weights = {token: math.exp(value / how.temperature) for token, value in logprobs.items()}
    whole = sum(weights.values())
    nucleus, mass = [], 0.0
    for token in sorted(weights, key=lambda one: -weights[one]):
        if mass >= how.top_p:
            break
        mass += weights[token] / whole
        nucleus.append((mass, token))
    return next(token for above, token in nucleus if above > u * mass)


def plain_beam(model: Any, row: int, how: Decode, begin: list[int]) -> list[Written]:
    running, found = [(0.0, list(begin))], []
    for step in range(how.max_tokens):
        ahead = []
        for total, ids in running:
            for token, value in enumerate(plain_logprobs(model, row, ids)):
                if token != tiny.SEP or step >= how.min_tokens:
                    ahead.append((total + value, [*ids, token]))
        ahead = sorted(ahead, key=lambda one: -one[0])[: 2 * how.beams]
        last = step + 1 == how.max_tokens
        ended = [one for one in ahead[: how.beams] if last or one[1][-1] == tiny.SEP]
        found = sorted(
            found + [(total / (step + 1), total, ids) for total, ids in ended],
            key=lambda one: -one[0],
        )[: how.beams]
        running = [one for one in ahead if one[1][-1] != tiny.SEP][: how.beams]
        if len(found) == how.beams and running[0][0] / (step + 1) <= found[-1][0]:
            break
    captions = []
    for _, total, ids in found[: how.candidates]:
        stops = ids[-1] == tiny.SEP
        tokens = ids[len(begin) : -1] if stops else ids[len(begin) :]
        finish = "stop" if stops else "length"
        captions.append(Written(tokens, pytest.approx(total, abs=1e-3), finish))
    return captions


@pytest.mark.parametrize("begin", PROMPTS)
def test_greedy_is_a_plain_loop(model: Any, begin: list[int]) -> None:
    found = write(model, decode(**GREEDY), begin)

    assert found == [[plain_walk(model, row, decode(**GREEDY), begin)] for row in range(COUNT)]
    assert {caption.finish for [caption] in found} == {"stop", "length"}


@pytest.mark.parametrize(
    ("begin", "likeliest", "how"),
    [
        (PROMPTS[0], (128,), {}),
        (PROMPTS[1], (2, 5), {}),
        (PROMPTS[0], (2, 5), {"top_p": 1.0}),
        (PROMPTS[1], (128,), {"top_p": 0.5, "temperature": 1.5}),
    ],
)
def test_nucleus_is_a_plain_loop(
    model: Any,
    begin: list[int],
    likeliest: tuple[int, ...],
    how: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "_LIKELIEST", likeliest)
    settings = decode(**NUCLEUS, **how)

    assert write(model, settings, begin) == [
        [plain_walk(model, row, settings, begin, draw) for draw in range(3)] for row in range(COUNT)
    ]


@pytest.mark.parametrize(("begin", "beams"), [(PROMPTS[0], 2), (PROMPTS[1], 3)])
def test_beam_search_is_a_plain_loop(model: Any, begin: list[int], beams: int) -> None:
    settings = decode(**BEAM, beams=beams)

    assert write(model, settings, begin) == [
        plain_beam(model, row, settings, begin) for row in range(COUNT)
    ]


@pytest.mark.parametrize("how", [GREEDY, BEAM, NUCLEUS])
def test_a_caption_alone_is_the_caption_in_a_batch(model: Any, how: dict[str, Any]) -> None:
    together = write(model, decode(**how))
    alone = [write(model, decode(**how), rows=[row])[0] for row in range(COUNT)]
    turned = write(model, decode(**how), rows=range(COUNT)[::-1])[::-1]

    def text(captions: Any) -> Any:
        return [[(one.tokens, one.finish) for one in image] for image in captions]

    assert text(together) == text(alone) == text(turned)


@pytest.mark.parametrize("how", [GREEDY, BEAM, NUCLEUS | {"top_p": 0.6}])
def test_what_is_done_on_a_gpu_gives_the_same(
    model: Any, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write(model, decode(**how))

    for module in (decoding, writing):
        monkeypatch.setattr(module, "HOST", "another device")

    assert write(model, decode(**how)) == expected


@pytest.mark.parametrize("how", [GREEDY, BEAM, NUCLEUS])
def test_a_model_in_bfloat16_writes_captions_nearly_as_probable(how: dict[str, Any]) -> None:
    exact = tiny.blip(seed=4, max_tokens=24)
    rounded = tiny.blip(seed=4, max_tokens=24).to(torch.bfloat16)
    states = rounded.encode_image(tiny.pixels(COUNT).to(torch.bfloat16))

    found = generate(rounded, states, KEYS, decode(**how), PROMPTS[0], tiny.SEP)

    states = exact.encode_image(tiny.pixels(COUNT))
    for row, captions in enumerate(found):
        for caption in captions:
            assert 2 <= len(caption.tokens) <= 12
            ids = [tiny.DEC, *caption.tokens, tiny.SEP]
            ids = ids if caption.finish == "stop" else ids[:-1]
            told = exact.logits(
                torch.tensor([ids[:-1]]), torch.ones(1, len(ids) - 1), states[row : row + 1]
            ).log_softmax(-1)[0]
            total = told.gather(1, torch.tensor(ids[1:])[:, None]).sum().item()
            assert caption.logprob == pytest.approx(total, rel=0.05, abs=0.5)


def test_a_draw_is_the_same_whatever_the_number_of_draws(model: Any) -> None:
    one, three = (write(model, decode(**NUCLEUS | {"candidates": n})) for n in (1, 3))

    assert [captions[:1] for captions in three] == [
        [Written(c.tokens, pytest.approx(c.logprob, abs=1e-4), c.finish) for c in captions]
        for captions in one
    ]
    assert len({tuple(c.tokens) for captions in three for c in captions}) > 6  # they differ


def test_uniforms_are_even_and_know_nothing_of_each_other() -> None:
    keys = [f"{place:09}" for place in range(2000)]

    drawn = uniforms(3, keys, 2, 20)

    assert drawn.shape == (4000, 20)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, 10, (0, 1))[0]
    assert abs(counts - 8000).max() < 5 * math.sqrt(8000)
    assert abs(np.corrcoef(drawn.T) - np.eye(20)).max() < 0.1
    assert (uniforms(3, keys[5:6], 2, 4) == drawn[10:12, :4]).all()
    assert (uniforms(4, keys[5:6], 2, 20) != drawn[10:12]).all()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (GREEDY, {"num_beams": 1}),
        ({"strategy": "beam", "beams": 3}, {"num_beams": 3}),
        (
            {"strategy": "beam", "beams": 3, "candidates": 3},
            {"num_beams": 3, "num_return_sequences": 3},
        ),
        (GREEDY | {"repetition_penalty": 1.3}, {"repetition_penalty": 1.3}),
        (
            {"strategy": "beam", "beams": 4, "repetition_penalty": 1.3},
            {"num_beams": 4, "repetition_penalty": 1.3},
        ),
    ],
)
@pytest.mark.parametrize("begin", PROMPTS)
@pytest.mark.parametrize("end_bias", [0.0, 2.0])
def test_an_imported_captioner_writes_what_transformers_writes(
    ours: dict[str, Any],
    theirs: dict[str, Any],
    begin: list[int],
    end_bias: float,
    tmp_path: Path,
) -> None:
    network = published.write(tmp_path, "BlipForConditionalGeneration", seed=5)
    network.text_decoder.cls.predictions.bias[tiny.SEP] += end_bias
    network.save_pretrained(tmp_path)
    limits = {"min_new_tokens": 2, "max_new_tokens": 12, "do_sample": False}

    written = network.generate(
        pixel_values=tiny.pixels(COUNT),
        input_ids=torch.tensor([[*begin, tiny.SEP]] * COUNT),  # it drops the last
        attention_mask=torch.ones(COUNT, len(begin) + 1),
        **limits,
        **theirs,
    )
    found = write(open_model(str(tmp_path)).model, decode(**ours), begin)

    expected = []
    for row in written[:, len(begin) :].tolist():
        ends = row.index(tiny.SEP) if tiny.SEP in row else len(row)
        expected.append((row[:ends], "stop" if ends < len(row) else "length"))
    assert [(one.tokens, one.finish) for image in found for one in image] == expected


@pytest.mark.parametrize(("columns", "number"), [(30, 2), (101, 6), (1000, 7), (1000, 1000)])
def test_the_largest_are_found_as_torch_finds_them(columns: int, number: int) -> None:
    scores = torch.randn(5, columns, generator=torch.Generator().manual_seed(0))
    scores[:, 3] = -torch.inf

    values, places = writing.largest(scores, number)

    assert torch.equal(values, scores.topk(number).values)
    assert torch.equal(scores.gather(1, places), values)


def test_no_images_no_captions(model: Any) -> None:
    assert write(model, decode(), rows=[]) == []


def test_a_caption_may_be_empty() -> None:
    always = tiny.blip(encoder=False)
    always.word_head.bias[tiny.SEP] += 1e4

    for how in (GREEDY, NUCLEUS, {"strategy": "beam"}):
        captions = write(always, decode(min_tokens=0, **how))

        assert {(tuple(one.tokens), one.finish) for image in captions for one in image} >= {
            ((), "stop")
        }


def test_captions_have_their_shortest_and_longest_length(model: Any) -> None:
    for how in (GREEDY, NUCLEUS, BEAM):
        captions = write(model, decode(min_tokens=4, max_tokens=5, **how))

        lengths = {(len(one.tokens), one.finish) for image in captions for one in image}
        assert lengths <= {(4, "stop"), (5, "length")}


def test_a_caption_longer_than_the_model_can_write_is_refused(model: Any) -> None:
    with pytest.raises(RecipeError, match=r"decode\.max_tokens must be at most 22 after 3"):
        write(model, decode(max_tokens=23), PROMPTS[1])

    assert len(write(model, decode(max_tokens=22), PROMPTS[1])) == COUNT


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"strategy": "top-k"}, "strategy must be one of nucleus, greedy, beam, got 'top-k'"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0\.0"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"beams": 0}, "beams must be at least 1"),
        ({"min_tokens": 21}, r"min_tokens must be in \[0, max_tokens\], got 21"),
        ({"min_tokens": 0, "max_tokens": 0}, "max_tokens must be at least 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be above 0"),
        ({"strategy": "greedy", "candidates": 2}, r"candidates must be in \[1, 1\], got 2"),
        ({"strategy": "beam", "candidates": 4}, r"candidates must be in \[1, 3\], got 4"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=rf"decode\.{told}"):
        Decode(**settings)
