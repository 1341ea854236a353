"""The card of a model: what it is, what it learnt from, what it can do, and how to use it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_USE = """\
```python
from transformers import VisionTextDualEncoderModel, VisionTextDualEncoderProcessor

model = VisionTextDualEncoderModel.from_pretrained("transformers")
processor = VisionTextDualEncoderProcessor.from_pretrained("transformers")
```
"""


def card(
    story: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    step: int,
    weights_sha256: str,
    foreign: str,
) -> str:
    """Write a card.

    Args:
        story: A run's `run.json`.
        results: What `evaluate` found, with clip_benchmark's field names.
        step: Of the checkpoint.
        weights_sha256: The digest of the weights.
        foreign: Why there is no form for `transformers`; empty: there is one.
    """
    settings, data = story["settings"], story["data"]
    model, optimizer = settings["model"], settings["optimizer"]
    batch = settings["batch"]
    parts = [
        "---\ntags:\n- image-text\n- dual-encoder\n- altmill\npipeline_tag: zero-shot-image-"
        "classification\n---",
        f"# {settings['name']}",
        f"A dual encoder: {model['image_tower']} at {model['image_px']} px and a BERT of "
        f"{model['text_layers']} layers, width {model['text_width']}, in a space of "
        f"{model['embed_width']} dimensions. Trained from scratch with altmill "
        f"{story['altmill']}.",
        "## Use",
        _USE if not foreign else f"There is no form for `transformers`: {foreign}.",
        "## Data",
        _bullets(_data(data)),
        "## Training",
        f"{step:,} steps of {batch:,} pairs, {step * batch:,} pairs in all; {optimizer['name']}, "
        f"learning rate {optimizer['learning_rate']:g} after {optimizer['warmup_steps']:,} steps, "
        f"{optimizer['decay']} decay, weight decay {optimizer['weight_decay']:g}, label smoothing "
        f"{settings['loss']['smoothing']:g}, on {story['processes']} x {story['device']}.",
        "The whole recipe:",
        f"```json\n{json.dumps(settings, indent=1)}\n```",
        "## Evaluation",
        _table(results) if results else "Not evaluated yet: `python -m train evaluate`.",
        "## Provenance",
        _bullets(
            [
                f"weights: SHA-256 `{weights_sha256}`",
                f"vocabulary: {story['vocabulary']['tokens']:,} tokens, SHA-256 "
                f"`{story['vocabulary']['sha256']}`",
                *(f"{name} {number}" for name, number in story["environment"].items()),
            ]
        ),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    for source in data["sources"]:
        digest = data["manifests_sha256"].get(source)
        yield f"`{source}`" + (f", manifest SHA-256 `{digest}`" if digest else "")
    yield f"{data['pairs']:,} pairs to learn from, and {data['held_out']:,} held out"
    yield from (f"{count:,} rows left out: {why}" for why, count in data["left_out"].items())
    yield f"digest of the samples and their order: `{data['digest']}`"


def _table(results: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| data | task | measure | value |", "|---|---|---|---|"]
    for result in results:
        for metric, value in result["metrics"].items():
            shown = "-" if value is None else f"{value:.3f}"
            ends = result.get("intervals", {}).get(metric)
            shown += f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
            lines.append(f"| {result['dataset']} | {result['task']} | {metric} | {shown} |")
    return "\n".join(lines)


def _bullets(lines: Any) -> str:
    return "\n".join(f"- {line}" for line in lines)
