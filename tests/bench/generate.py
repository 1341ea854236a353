"""Writing and judging captions, beside transformers' own BLIP with the same weights.

Both do the same work in the same run, in turns: the same images and texts as tensors, the same
batch, one thread, random weights.  Word embeddings are made larger, so that the model is as sure of
a token as trained captioners are; with the plain random weights every token is as likely as any,
and what is measured is the sorting of 30,524 of them.  No caption ends before its 20 tokens, but
for the line that says so; there [SEP] is made likely enough for lengths such as captions have.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.usage import seconds

IMAGE_PX, PATCH_PX, WIDTH, LAYERS, HEADS = 96, 16, 192, 6, 3
VOCABULARY = 30_524
BATCH = 32
TOKENS = 20
TEXT_TOKENS = 16
TEXTS = 2
REPEATS = 3
EMBEDDING_SCALE = 18.0
"""With it, the nucleus of 0.9 has tens of tokens: half of the time 33 or more."""
END_LOGIT = 19.0
"""Of [SEP], where captions end."""
END = 102


class Work(NamedTuple):
    """Something that both do."""

    what: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]


def measure_generation(repeats: int = REPEATS) -> Iterator[str]:
    """Yield lines of images per second of CPU, ours and transformers'."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    yield (
        f"\n{BATCH} images of {IMAGE_PX} px, width {WIDTH}, {LAYERS} + {LAYERS} layers, "
        f"{VOCABULARY:,} tokens, {TOKENS} written; images per CPU s, median of {repeats}"
    )
    yield f"{'':40}{'ours':>10}{'theirs':>10}{'times':>9}"
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for work in _works(Path(folder)):
            turns = [(_cpu(work.ours), _cpu(work.theirs)) for _ in range(repeats + 1)]
            ours, theirs = (  # the first turn warms up
                BATCH / statistics.median(spent) for spent in zip(*turns[1:], strict=True)
            )
            yield f"{work.what:40}{ours:>10.1f}{theirs:>10.1f}{ours / theirs:>8.2f}x"


def _cpu(do: Callable[[], Any]) -> float:
    before = seconds()
    do()
    return (seconds() - before).cpu


def _works(folder: Path) -> Iterator[Work]:
    import torch

    from recaption.config import Decode
    from recaption.decoding import generate
    from recaption.packing import pack
    from recaption.weights import open_model

    pixels = torch.randn(BATCH, 3, IMAGE_PX, IMAGE_PX)
    keys = [f"{place:09}" for place in range(BATCH)]
    theirs = _write(folder / "captioner", "BlipForConditionalGeneration")
    ours = pack(open_model(str(folder / "captioner")).model)
    dec = VOCABULARY - 2
    limits = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS}
    ways: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "write, greedy": ({"strategy": "greedy"}, {"do_sample": False}),
        "write, nucleus of 0.9": ({}, {"do_sample": True, "top_p": 0.9, "top_k": 0}),
        "write, nucleus of 0.9, 4 captions": (
            {"candidates": 4},
            {"do_sample": True, "top_p": 0.9, "top_k": 0, "num_return_sequences": 4},
        ),
        "write, 3 beams": ({"strategy": "beam"}, {"do_sample": False, "num_beams": 3}),
    }
    for what, (decode, options) in ways.items():
        how = Decode(min_tokens=TOKENS, max_tokens=TOKENS, **decode)
        yield Work(
            what,
            lambda how=how: generate(ours, ours.encode_image(pixels), keys, how, [dec], END),
            lambda options=options: theirs.generate(pixel_values=pixels, **limits, **options),
        )
    ending = _write(folder / "ending", "BlipForConditionalGeneration", END_LOGIT)
    our_ending = pack(open_model(str(folder / "ending")).model)
    tokens: list[int] = []

    def write() -> None:
        states = our_ending.encode_image(pixels)
        written = generate(our_ending, states, keys, Decode(max_tokens=TOKENS), [dec], END)
        tokens[:] = [len(one.tokens) for image in written for one in image]

    write()
    options = {"do_sample": True, "top_p": 0.9, "top_k": 0, "min_new_tokens": 5}
    yield Work(
        f"write, nucleus, {statistics.mean(tokens):.0f} tokens on average",
        write,
        lambda: ending.generate(pixel_values=pixels, max_new_tokens=TOKENS, **options),
    )
    yield Work(
        "  of which images encoded",
        lambda: ours.encode_image(pixels),
        lambda: theirs.vision_model(pixel_values=pixels),
    )
    yield _scoring(folder / "filter", pixels)


def _scoring(folder: Path, pixels: Any) -> Work:
    """Return the judging of texts by ITC and ITM; transformers' class takes a text per image."""
    import torch

    from recaption.packing import pack
    from recaption.weights import open_model

    network = _write(folder, "BlipForImageTextRetrieval")
    model = pack(open_model(str(folder)).model)
    ids = torch.randint(1000, VOCABULARY - 2, (TEXTS * BATCH, TEXT_TOKENS))
    mask = torch.ones_like(ids)

    def ours() -> None:
        states = model.encode_image(pixels)
        model.project_image(states)
        model.encode_text(ids, mask)
        model.match(ids, mask, states)

    def theirs() -> None:
        for first in range(TEXTS):
            given = {"input_ids": ids[first::TEXTS], "attention_mask": mask[first::TEXTS]}
            network(pixel_values=pixels, **given)
            network(pixel_values=pixels, use_itm_head=False, **given)

    return Work(f"judge {TEXTS} texts by ITC and ITM", ours, theirs)


def _write(folder: Path, kind: str, end_logit: float | None = None) -> Any:
    """Write a model of transformers with random weights, and return it."""
    import torch
    import transformers

    torch.manual_seed(0)
    shared = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": LAYERS}
    config = transformers.BlipConfig(
        text_config=shared
        | {
            "num_attention_heads": HEADS,
            "vocab_size": VOCABULARY,
            "bos_token_id": VOCABULARY - 2,
        },
        vision_config=shared
        | {
            "num_attention_heads": HEADS,
            "image_size": IMAGE_PX,
            "patch_size": PATCH_PX,
            "initializer_range": 0.02,  # transformers' default, 1e-10, makes a tower of nothing
        },
    )
    model: Any = getattr(transformers, kind)(config).eval()
    model.get_input_embeddings().weight.data *= EMBEDDING_SCALE
    if end_logit is not None:
        model.get_input_embeddings().weight.data[END] = 0.0
        model.text_decoder.cls.predictions.bias.data[END] = end_logit
    model.save_pretrained(folder)
    pieces = [f"##{place}" for place in range(VOCABULARY - 2 - 5)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    transformers.BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return model
