"""Plan an experiment: every command of it, what each one waits for, and where its output is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.experiments.evidence.grid import Cell, Grid, Variant, slug
from train.settings import read_settings

CLEAN_SEED, TEST_SEED = 1000, 2000
"""Added to a seed for S_h, and that of the test pictures: no two corpora show the same scenes."""
QUARTERS = (1, 2, 3)
"""Of the steps of the first cell's models of the first seed, at which they are tested, too."""
MAPPED = ("raw", "recaptioned")
"""Arms whose embeddings are drawn."""

CHOICES = {
    "recaptioned": ("choose.rule=threshold-mix", "choose.raw_top_share=0"),
    "threshold-mix": ("choose.rule=threshold-mix",),
    "theory": ("choose.rule=theory",),
}
"""Arms whose captions are chosen by another rule than capfilt, and that rule."""
_PAIRS = {"raw": "all", "rules": "kept"}
_WEIGHED = {"raw": "raw", "h-only": "raw", "rules": "raw", "itm": "raw", "clean": "truth_caption"}
SHARED = ("h-only", "clean")
"""Arms that learn nothing of S_w's captions: cells of one |S_h| have them in common."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that a person could type."""

    name: str
    words: tuple[str, ...]
    """After `python -m`, or after nothing where the first is `cp`."""
    needs: tuple[str, ...] = ()
    """Names of those that must have ended before."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cell, or an ablation of it, has its files, for one seed."""

    grid: Grid
    out: Path
    cell: Cell
    seed: int
    variant: Variant | None = None

    @property
    def home(self) -> Path:
        """The folder of what is this place's alone."""
        if self.variant is not None:
            return self.out / "variants" / slug(self.variant.name)
        return self.out / "cells" / self.cell.name / f"seed{self.seed}"

    def run(self, arm: str) -> Path:
        """Return the folder of an arm's model."""
        if arm in SHARED and self.variant is None:
            return self.out / "shared" / f"clean{self.cell.clean}" / f"seed{self.seed}" / arm
        return self.home / arm

    def captions(self, arm: str) -> Path:
        """Return the folder of the filter run whose captions an arm learns from."""
        name = arm if arm in CHOICES else "capfilt"
        own = self.variant is None or self.variant.recaption
        place = self if own else Place(self.grid, self.out, self.cell, self.seed)
        return place.home / "captions" / name

    def corpus(self, folder: str = "corpora") -> Path:
        """Return S_w, or what the filter job made of it, in `filtered`."""
        return self.out / folder / f"{self.cell.corpus}-seed{self.seed}"

    def clean(self, folder: str = "corpora") -> Path:
        """Return S_h, or what the filter job made of it."""
        return self.out / folder / f"clean{self.cell.clean}-seed{self.seed}"

    @property
    def test(self) -> Path:
        """The pictures that models are tested on."""
        return self.out / "corpora" / "test"

    @property
    def vocabulary(self) -> Path:
        """The vocabulary of all models."""
        return self.out / "vocabulary" / "vocab.txt"


def places(grid: Grid, out: Path) -> list[Place]:
    """Return all places: the cells, seed by seed, then the ablations."""
    cells = [Place(grid, out, cell, seed) for seed in grid.seeds for cell in grid.cells]
    first = cells[0]
    return cells + [Place(grid, out, first.cell, first.seed, one) for one in grid.variants]


def arms_of(place: Place) -> tuple[str, ...]:
    """Return the arms that a place has."""
    if place.variant is not None:
        return place.variant.arms
    return place.cell.arms or place.grid.arms


def plan(grid: Grid, out: Path) -> list[Command]:
    """Return all commands, each once, in an order that they can be run in.

    Raises:
        RecipeError: A recipe is wrong.
    """
    every = places(grid, out)
    commands = [*_corpora(every), _vocabulary(every[0])]
    for place in every:
        commands += _captions(place)
    for place in every:
        commands += [command for arm in arms_of(place) for command in _arm(place, arm)]
    commands += _shown(every[0])
    return list({command.name: command for command in commands}.values())


def _corpora(every: Sequence[Place]) -> Iterator[Command]:
    grid = every[0].grid
    tested, seen, noisy = _shows(grid)
    yield _sample(every[0].test, grid.test_rows, TEST_SEED, [*tested, "--clean"])
    for place in every:
        noise = [f"--noise={kind}={share:g}" for kind, share in place.cell.shares.items() if share]
        yield _sample(place.corpus(), grid.rows, place.seed, [*seen, *noisy, *noise])
        yield _filter(grid, place.corpus(), place.corpus("filtered"))
        # A deal of pictures is of one seed; scenes are drawn, and must not be the same ones.
        seed = place.seed if grid.images else place.seed + CLEAN_SEED
        yield _sample(place.clean(), place.cell.clean, seed, [*seen, "--clean"])
        yield _filter(grid, place.clean(), place.clean("filtered"))


def _shows(grid: Grid) -> tuple[list[str], list[str], list[str]]:
    """Return what corpora show: those of the test, those of training, and S_w besides."""
    look = ["--wordings", str(grid.wordings), "--side-px", str(grid.side_px)]
    if not grid.images:
        look += ["--size", grid.size]
        return look, [*look, "--combinations", "seen"], []
    look += ["--images", grid.images, "--part"]
    clean = max(cell.clean for cell in grid.cells)
    return [*look, "test"], [*look, "train"], ["--skip", str(clean)]


def _sample(folder: Path, rows: int, seed: int, options: list[str]) -> Command:
    words = ["pipelines", "sample", "--output", str(folder), "--seed", str(seed), *options]
    return Command(f"sample {folder.name}", (*words, *(["--rows", str(rows)] if rows else ())))


def _filter(grid: Grid, corpus: Path, output: Path) -> Command:
    words: tuple[str, ...] = (
        "pipelines",
        "filter",
        "--input",
        str(corpus),
        "--output",
        str(output),
    )
    words += ("--recipe", grid.recipe("filter"), "--workers", "1")
    return Command(f"filter {corpus.name}", words, (f"sample {corpus.name}",))


def _vocabulary(first: Place) -> Command:
    """Learn one vocabulary for all models, by a run of a step."""
    folders = (first.corpus("filtered"), first.clean("filtered"))
    changes = [
        "steps=1",
        "optimizer.warmup_steps=0",
        "captions.pairs=kept",
        "captions.weights.raw=1",
    ]
    return Command(
        "vocabulary",
        _run(first.grid.recipe("train"), folders, first.vocabulary.parent, changes),
        tuple(f"filter {folder.name}" for folder in folders),
    )


def _captions(place: Place) -> Iterator[Command]:
    """Train the captioner and the filter model, and choose captions, if any arm needs them."""
    variant, grid = place.variant, place.grid
    arms = [arm for arm in arms_of(place) if arm in (*CHOICES, "itm", "capfilt")]
    if not arms or (variant is not None and not variant.recaption):
        return
    first = place.captions("capfilt")
    made = f"recaption {_told(place)}"
    yield _copy(place.corpus("filtered"), first, (f"filter {place.corpus().name}",))
    changes = [f"seed={place.seed}", f"vocabulary.path={place.vocabulary}"]
    changes += [*grid.changes.get("recaption", ()), *(variant.recaption if variant else ())]
    words: tuple[str, ...] = (
        "recaption",
        "run",
        "--from",
        str(first),
        "--clean",
        str(place.clean("filtered")),
    )
    words += ("--recipe", grid.recipe("recaption"), *_sets(changes))
    needs = (f"copy {first}", f"filter {place.clean().name}", "vocabulary")
    yield Command(made, words, needs)
    for arm in arms:
        if arm in CHOICES:
            folder = place.captions(arm)
            yield _copy(first, folder, (made,))
            chosen = ["recaption", "choose", "--from", str(folder), *_sets(CHOICES[arm])]
            chosen += ["--recipe", grid.recipe("recaption")]
            yield Command(f"choose {folder}", tuple(chosen), (f"copy {folder}",))


def _copy(source: Path, target: Path, needs: tuple[str, ...]) -> Command:
    return Command(f"copy {target}", ("cp", "-R", f"{source}/.", str(target)), needs)


def _arm(place: Place, arm: str) -> Iterator[Command]:
    """Train a model and test it."""
    run, grid = place.run(arm), place.grid
    steps = read_settings(grid.recipe("train"), _train_changes(place)).steps
    changes = [f"seed={place.seed}", f"vocabulary.path={place.vocabulary}"]
    changes += [f"captions.pairs={_PAIRS.get(arm, 'chosen')}"]
    changes += [f"captions.weights.{_WEIGHED.get(arm, 'chosen')}=1"]
    changes += [f"checkpoints.every_steps={max(1, steps // 4)}", "checkpoints.keep=4"]
    changes += _train_changes(place)
    folders = _folders(place, arm)
    trained = f"train {run}"
    words = _run(grid.recipe("train"), folders, run, changes)
    yield Command(trained, words, (*_needs(place, arm), "vocabulary"))
    tested = ("train", "evaluate", str(run), "--on", f"planted:{place.test}")
    needs = (trained, f"sample {place.test.name}")
    yield Command(f"test {run}", (*tested, "--checkpoint", "last"), needs)
    first = grid.cells[0], grid.seeds[0], None
    for quarter in QUARTERS if (place.cell, place.seed, place.variant) == first else ():
        step = str(quarter * max(1, steps // 4))
        where = ("--checkpoint", step, "--out", str(run / f"at-{step}"))
        yield Command(f"test {run} at {step}", (*tested, *where), needs)


def _folders(place: Place, arm: str) -> tuple[Path, ...]:
    clean = place.clean("filtered")
    return {
        "raw": (place.corpus("filtered"), clean),
        "rules": (place.corpus("filtered"), clean),
        "h-only": (clean,),
        "clean": (place.corpus(), place.clean()),  # the shards, which know the truth
    }.get(arm, (place.captions(arm), clean))


def _needs(place: Place, arm: str) -> Iterator[str]:
    for folder in _folders(place, arm):
        if "captions" in folder.parts[-2:]:
            captioned = place.variant is None or place.variant.recaption
            of = place if captioned else Place(place.grid, place.out, place.cell, place.seed)
            yield f"choose {folder}" if arm in CHOICES else f"recaption {_told(of)}"
        else:
            yield f"{'filter' if folder.parent.name == 'filtered' else 'sample'} {folder.name}"


def _train_changes(place: Place) -> list[str]:
    own = place.variant.train if place.variant else ()
    return [*place.grid.changes.get("train", ()), *own]


def _run(
    recipe: str, folders: Sequence[Path], out: Path, changes: Sequence[str]
) -> tuple[str, ...]:
    data = [word for folder in folders for word in ("--data", str(folder))]
    return ("train", "run", recipe, *data, "--out", str(out), *_sets(changes))


def _shown(first: Place) -> Iterator[Command]:
    """Embed the test pictures, and write the page of the captions."""
    for arm in MAPPED:
        if arm in arms_of(first):
            run, out = first.run(arm), str(maps_of(first, arm))
            words = ["train", "embed", str(run), "--checkpoint", "last", "--out", out]
            needs = (f"train {run}", f"sample {first.test.name}")
            yield Command(f"embed {run}", (*words, "--data", str(first.test)), needs)
    if any(arm in arms_of(first) for arm in ("itm", "capfilt")):
        told = ("pipelines", "report", "--from", str(first.captions("capfilt")))
        yield Command("report", told, (f"recaption {_told(first)}",))


def maps_of(place: Place, arm: str) -> Path:
    """Return the folder of an arm's embeddings of the test pictures."""
    return place.home / "embeddings" / arm


def _told(place: Place) -> str:
    return str(place.home)


def _sets(changes: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for change in changes for word in ("--set", change))
