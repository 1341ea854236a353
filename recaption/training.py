"""Learn a captioner and, apart from it, a filter: CapFilt's two models.

One model learns contrast, matching and writing from all pairs.  From it, the captioner goes on with
writing alone, and the filter with contrast and matching, both on clean pairs alone: a model that
judges what it wrote itself lets its own errors pass (BLIP, arXiv:2201.12086, table 4: 8 % are
rejected, not 25 %).  All pairs are S = S_w and S_h together, as in Sun et al.'s theory.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recaption.blip import Blip, BlipConfig
from recaption.calibration import calibrate
from recaption.feed import Feed
from recaption.files import sweep, write_json
from recaption.judging import judge_own_and_wrong, written_loss
from recaption.learning import Learning, Vocabulary, fingerprint
from recaption.pairs import Corpus, Pair, read_corpus
from recaption.stages import Say, Trainer, part_of
from recaption.stores import to_path, working
from recaption.text import scale_to_width
from recaption.weights import Package, save_model
from recaption.wordpiece import Tokenizer, count_words, train_wordpiece

REPORT = "training.json"
CALIBRATION = "calibration.json"
PIXELS = "pixels.raw"

FORMAT = 1  # of checkpoints, and of what is learnt by them


def train(
    settings: Learning,
    noisy: Iterable[Pair],
    clean: Iterable[Pair],
    folder: Path,
    *,
    say: Say,
    device: str = "",
) -> dict[str, Any]:
    """Learn both models.  A run that was killed goes on where it was, if it is called again.

    Args:
        settings: What to learn, and how.
        noisy: Pairs of the crawl, S_w; there may be none.
        clean: Pairs that are known to be clean, S_h.
        folder: Where `captioner/` and `filter/`, both model folders, and checkpoints are written,
            and `filter/calibration.json`, the filter's threshold.
        say: Takes each line of progress.
        device: As torch names it; empty: a GPU where there is one.

    Returns:
        What `training.json` in `folder` says: settings, numbers of pairs and their digests, losses,
        and the calibration.

    Raises:
        RecipeError: There are too few pairs, the loss is no longer finite, or `folder` holds
            another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    file = working(folder / PIXELS) if settings.pixels_in_file else None
    corpus = read_corpus(noisy, clean, settings.model.image_px, file)
    material = _prepare(settings, corpus, device)
    with torch.random.fork_rng():
        models, losses = _learn(settings, material, folder, say)
    specials, held_out = material.tokenizer.specials, material.rows["held_out"]
    judged = judge_own_and_wrong(models["filter"], material.feed, specials, held_out, settings.seed)
    threshold = calibrate(*judged, settings.calibration.precision, settings.calibration.prior)
    written = written_loss(models["captioner"], material.feed, specials, held_out)
    report = {
        "settings": asdict(settings),
        "pairs": {name: len(rows) for name, rows in material.rows.items()},
        "pairs_sha256": {name: corpus.digest(rows) for name, rows in material.rows.items()},
        "undecodable": corpus.num_undecodable,
        "vocabulary": {
            "tokens": len(material.tokenizer.vocabulary),
            "sha256": material.tokenizer.digest,
        },
        "weights_sha256": {
            name: save_model(
                folder / name,
                Package(model=model, vocabulary=material.tokenizer.vocabulary),
            )
            for name, model in models.items()
        },
        "losses": losses | {"held_out": {"lm": written}},
        "calibration": asdict(threshold),
    }
    write_json(folder / "filter" / CALIBRATION, report["calibration"])
    write_json(folder / REPORT, report)
    return report


@dataclass(frozen=True, slots=True)
class _Material:
    """What is learnt from."""

    rows: dict[str, NDArray[np.int64]]
    """`noisy`, `clean` and `held_out` rows of the corpus."""
    digest: str
    tokenizer: Tokenizer
    feed: Feed


def _prepare(settings: Learning, corpus: Corpus, device: str) -> _Material:
    clean, held_out = corpus.clean(settings.held_out_share)
    learnt = np.concatenate([corpus.noisy, clean])
    captions = (corpus.captions[row] for row in learnt)
    tokenizer = make_tokenizer(settings.vocabulary, captions, settings.model.max_tokens)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return _Material(
        {"noisy": corpus.noisy, "clean": clean, "held_out": held_out},
        corpus.digest(learnt),
        tokenizer,
        Feed(corpus, tokenizer, where),
    )


def _learn(
    settings: Learning, material: _Material, folder: Path, say: Say
) -> tuple[dict[str, Blip], dict[str, dict[str, float]]]:
    """Return the captioner and the filter, and the losses at the end of each stage."""
    tokenizer, clean = material.tokenizer, material.rows["clean"]
    size = len(tokenizer.vocabulary)
    config = replace(settings.model, vocabulary=size, encoder=True, decoder=True)
    steps, seed = settings.checkpoint_steps, settings.seed
    trainer = Trainer(material.feed, tokenizer.specials, folder, steps, seed, say)
    mark = fingerprint(FORMAT, config, tokenizer.digest, material.digest, seed, settings.pretrain)
    torch.manual_seed(seed)
    model = _new(config).to(material.feed.device)
    learnt = np.concatenate([material.rows["noisy"], clean])
    losses = {"pretrain": trainer.run(settings.pretrain, model, learnt, mark)}
    models = {
        "captioner": part_of(model, encoder=False, decoder=True),
        "filter": part_of(model, encoder=True, decoder=False),
    }
    for stage in (settings.captioner, settings.filter):
        own = fingerprint(mark, stage)
        losses[stage.section] = trainer.run(stage, models[stage.section], clean, own)
    return models, losses


def _new(config: BlipConfig) -> Blip:
    model = Blip(config)
    for name, part in model.named_children():
        scale_to_width(part, config.vision_width if name == "vision" else config.text_width)
    return model


def make_tokenizer(settings: Vocabulary, captions: Iterable[str], max_tokens: int) -> Tokenizer:
    """Read the vocabulary that is named, or learn one from captions."""
    if settings.path:
        return Tokenizer.load(to_path(settings.path), max_tokens)
    return Tokenizer(train_wordpiece(count_words(captions), settings.size), max_tokens)
