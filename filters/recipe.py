"""Recipes: every number of a run, read from TOML and checked before any work.

```toml
name = "mine"
[rules.shorter_side]      # the module filters/shorter_side.py, in the order of judging
min_exclusive = 200       # a field of its class
```
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from filters.duplicate import Duplicate
from filters.rule import RecipeError, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The corpus-wide tables."""

    max_ngrams: int = 100_000_000
    """N-grams ranked and kept, most frequent first; a rule's K may be anything up to it.

    Source of the default: ALIGN section 3, "100 million most frequent unigrams and bigrams".
    """
    hash_seed: int = 0
    """Seed of the 64-bit n-gram hash; another one is needed only when a run says so."""

    def __post_init__(self) -> None:
        if not 0 < self.max_ngrams < 2**32 - 1:
            raise RecipeError(
                f"tables.max_ngrams must be from 1 to {2**32 - 2:,}, got {self.max_ngrams:,}; "
                "correct it"
            )


HASHES = ("when_needed", "fast", "exact")


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """How image bytes are measured."""

    decode: bool = True
    """Decode the pixels of rows that survive the other rules, to find damaged images."""
    max_pixels: int = 178_956_970
    """An image whose header claims more is refused undecoded.

    Source of the default: Pillow's own limit, twice which it calls a decompression bomb.
    """
    hashes: str = "when_needed"
    """Measure perceptual hashes of rows that survive the other rules.

    `exact`: bit for bit those of imagehash and pdqhash; `fast`: of JPEGs, at a reduced scale;
    `when_needed`: `fast`, if test sets are named or near-duplicates are looked for.
    """
    for_recaption: bool = False
    """Do the same to images of pairs that only rules on the caption drop, or that have none.

    They can be given a better caption then: their pixels are whole, and no test image's.
    """

    def __post_init__(self) -> None:
        if self.hashes not in HASHES:
            raise RecipeError(
                f"images.hashes must be {', '.join(HASHES)}, got {self.hashes!r}; correct it"
            )
        if self.max_pixels < 1:
            raise RecipeError(
                f"images.max_pixels must be 1 or more, got {self.max_pixels:,}; correct it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel:
    """How languages are identified."""

    model: str = ""
    """A path to a fastText model; empty: the compressed lid.176 that is installed with altmill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nsfw:
    """How images are scored for what is not safe for work."""

    model: str = ""
    """A path to an image classifier of `transformers`; empty: the input's column is the score."""
    labels: tuple[str, ...] = ("nsfw",)
    """The classifier's labels whose probabilities are the score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSets:
    """The test sets that no training image may come from."""

    __test__ = False  # to pytest

    indexes: tuple[str, ...] = ()
    """Folders that the job `index` wrote."""
    phash_radius: int = 8
    """The nearest test image is looked for up to this distance, in bits of 64."""
    pdq_radius: int = 31
    """The same, in bits of 256.  Source: PDQ's authors, who call such images alike."""

    def __post_init__(self) -> None:
        for name, most in (("phash_radius", 15), ("pdq_radius", 63)):
            if not 0 <= getattr(self, name) <= most:
                raise RecipeError(
                    f"test_sets.{name} must be from 0 to {most}, got {getattr(self, name):,}; "
                    "correct it"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """How images become vectors whose cosine says how alike they are.

    ALIGN, appendix A, calls a cosine above 0.975 a near-duplicate, by a model that was not
    published.  Each model has a scale of its own; thresholds that are published are these:

    - SSCD (https://github.com/facebookresearch/sscd-copy-detection), `sscd_disc_mixup`: pairs of
      DISC's images above 0.75 are copies with 90 % precision.  Its `.torchscript.pt` works as it
      is, with the size, mean and deviation below.
    - ISC (https://github.com/lyakaap/ISC21-Descriptor-Track-1st), `isc_ft_v107`: DataComp's
      threshold is 0.604169.  It is a checkpoint, to be exported by its own package first, made for
      squares of 512 px.
    """

    model: str = ""
    """A path to a file of TorchScript or `torch.export`, or a path or hub id of `transformers`."""
    size_px: int = 320
    """A file's model sees images brought to this square, whatever their shape was.

    Source of the default: SSCD's README, for square input.
    """
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """What a file's model has subtracted from red, green and blue in [0, 1]; ImageNet's mean."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """What they are divided by then; ImageNet's standard deviation."""
    clusters: int = 0
    """Compare an image only with those of an index that share three of the ten nearest of so many
    clusters; 0: compare it with all of them.

    ALIGN's appendix A says "4K", for speed; what that loses of recall is in the README.
    """

    def __post_init__(self) -> None:
        if not 0 <= self.clusters < 2**31:
            raise RecipeError(
                f"embedding.clusters must be 0 or more, got {self.clusters:,}; correct it"
            )
        if not 0 < self.size_px <= 4096:
            raise RecipeError(
                f"embedding.size_px must be from 1 to 4,096, got {self.size_px:,}; correct it"
            )
        for name in ("mean", "std"):
            value = getattr(self, name)
            if len(value) != 3 or (name == "std" and min(value) <= 0):  # RGB
                raise RecipeError(
                    f"embedding.{name} must be three numbers, those of std above 0, got "
                    f"{list(value)}; correct it"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that a filter run was told."""

    name: str
    materialise: bool = False
    """Write the kept pairs as new tar shards."""
    max_drop_share: float = 0.9
    """A rule that drops a larger share of the rows is reported with a warning."""
    columns: dict[str, str] = field(default_factory=dict)
    """Input columns by our name, such as `caption = "my_alt"`, where the usual names fail."""
    tables: Tables = Tables()
    images: Images = Images()
    language: LanguageModel = LanguageModel()
    nsfw: Nsfw = Nsfw()
    test_sets: TestSets = TestSets()
    embedding: Embedding = Embedding()
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop_share <= 1:
            raise RecipeError(
                f"max_drop_share must be from 0 to 1, got {self.max_drop_share}; correct it"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the whole recipe, defaults filled in, as plain values that `from_dict` reads."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain |= {name: asdict(plain[name]) for name in SECTIONS}
        return plain | {"rules": {rule.name: _set_fields(rule) for rule in self.rules}}

    @property
    def duplicate(self) -> Duplicate | None:
        """The rule on duplicates, if there is one."""
        return next((rule for rule in self.rules if isinstance(rule, Duplicate)), None)

    @property
    def row_rules(self) -> tuple[Rule, ...]:
        """The rules that judge a row by itself: all but that on duplicates."""
        return tuple(rule for rule in self.rules if not isinstance(rule, Duplicate))

    @property
    def pixel_rules(self) -> tuple[Rule, ...]:
        """The rules that a row must keep for its pixels to be decoded."""
        rules = self.row_rules
        return tuple(r for r in rules if not (r.of_caption and self.images.for_recaption))

    @property
    def hashing(self) -> bool:
        """Whether perceptual hashes are measured."""
        near = self.duplicate is not None and self.duplicate.near
        return self.images.hashes != "when_needed" or bool(self.test_sets.indexes) or near

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the recipe; the order of its rules counts."""
        return _digest(self.as_dict())


SECTIONS = ("tables", "images", "language", "nsfw", "test_sets", "embedding")
"""What a recipe says of measuring, besides its columns."""


def _set_fields(rule: Rule) -> dict[str, Any]:
    chosen = {f.name: getattr(rule, f.name) for f in fields(rule)}  # type: ignore[arg-type]
    return {k: v for k, v in chosen.items() if v is not None}


def _digest(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain, ensure_ascii=False).encode()).hexdigest()
