"""The card of a data set: README.md, as the Hugging Face Hub and `datasets` read it.

Its front matter says what the shards hold, so that `datasets.load_dataset(FOLDER)` reads samples
of different images, too, which it refuses to guess.  Names come from the input: each is cut, and
stands where Markdown takes nothing for markup.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import tomli_w
import yaml

from pipelines.materialised import Materialised
from pipelines.page import inert

NAME = "README.md"
TASKS = ("image-to-text", "text-to-image", "zero-shot-image-classification")
LICENSE = """\
Unknown. The images and captions belong to those who published them at the URLs in `url`, and who \
were not asked. Name a license at the top before this is passed on, if there is one."""

_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_DTYPES = {"float": "float32", "double": "float64", "halffloat": "float16"}
_PLAIN = re.compile(r"u?int(8|16|32|64)|bool|null")
_NAME_CHARACTERS = 200


def render_card(data: Materialised) -> str:
    """Return the card as Markdown."""
    told, name = data.manifest, inert(data.manifest["recipe"]["name"], _NAME_CHARACTERS)
    parts = [
        f"---\n{yaml.safe_dump(front_matter(data), sort_keys=False, allow_unicode=True)}---",
        f"# {span(name)}",
        f"{data.samples:,} pairs of an image and a caption, in {len(data.sizes):,} tar shards. "
        f"altmill {told['altmill']} filtered them out of {told['rows_in']:,}.",
        _use(data),
        "## What was kept",
        _table(("rows", "what became of them"), funnel(data)),
        "The first rule that a pair breaks drops it. `manifest.json` of the run has this account "
        "for every shard, and `decisions/` for every pair.",
        "## Captions",
        _bullets(captions(data)),
        "## Columns",
        "Of the parquet beside each tar; each sample's json has them, too.",
        _bullets(f"{span(field.name)}: {field.type}" for field in data.columns),
        "## Recipe",
        f"Its digest is `{told['recipe_digest']}`.",
        _fenced(_toml(told["recipe"]), "toml"),
        "## Provenance",
        _bullets(_provenance(told)),
        "## License",
        LICENSE,
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def front_matter(data: Materialised) -> dict[str, Any]:
    """Return the metadata at the top of the card, by the Hub's names."""
    columns = {"name": "json", "struct": [_feature(field) for field in data.columns]}
    plain = [{"name": name, "dtype": "string"} for name in ("__key__", "__url__", "txt")]
    images = [{"name": extension, "dtype": "image"} for extension in data.images]
    languages = data.manifest["recipe"]["rules"].get("language", {}).get("keep", [])
    return {
        "pretty_name": inert(data.manifest["recipe"]["name"], _NAME_CHARACTERS),
        "license": "unknown",
        **({"language": list(languages)} if languages else {}),
        "task_categories": list(TASKS),
        "size_categories": [size_category(data.samples)],
        "tags": ["image-text-pairs", "webdataset", "altmill"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "**/*.tar"}]}
        ],
        "dataset_info": {
            "features": [*plain, columns, *images],
            "splits": [
                {"name": "train", "num_bytes": data.size_bytes, "num_examples": data.samples}
            ],
        },
    }


def size_category(samples: int) -> str:
    """Return the Hub's name for a size."""
    bounds = [1000 * 10**power for power in range(len(_SIZES))]
    at = sum(samples >= bound for bound in bounds)
    if at in (0, len(_SIZES)):
        return f"n<{_SIZES[0]}" if not at else f"n>{_SIZES[-1]}"
    return f"{_SIZES[at - 1]}<n<{_SIZES[at]}"


def funnel(data: Materialised) -> Iterator[tuple[str, str]]:
    """Yield the account of a run: numbers of rows, and what became of them."""
    told, chosen = data.manifest, data.chosen
    yield f"{told['rows_in']:,}", "read"
    for reason, rows in told["dropped"].items():
        yield f"-{rows:,}", f"`{reason}`"
    yield f"{told['kept']:,}", "kept by the rules"
    if chosen:
        yield f"-{chosen['lost']:,}", "neither the raw caption nor a synthetic one matches"
        yield f"+{chosen['rescued']:,}", "dropped for the raw caption, back with a synthetic one"
    yield f"{data.samples:,}", "in these shards"


def captions(data: Materialised) -> Iterator[str]:
    """Yield sentences about where the captions come from."""
    chosen, made = data.chosen, data.captioning
    if not chosen:
        yield "All are those of the input."
        return
    synthetic = chosen["replaced"] + chosen["rescued"]
    yield (
        f"{data.samples - synthetic:,} are those of the input, {synthetic:,} are synthetic; "
        "`caption_source` says which. `org_caption` is the raw one and `re_caption` the best "
        "synthetic one, with their scores."
    )
    yield f"Chosen by the rule {span(made['choice']['rule'])}."
    for digest, spec in made.get("captioners", {}).items():
        yield f"Captioner `{digest}`: {span(model_name(spec, 'captioner'))}"
    if made.get("scorer"):
        yield f"Scored by {span(model_name(made['scorer'], 'scorer'))}"


def model_name(spec: Mapping[str, Any], role: str) -> str:
    """Return what a captioner or a scorer is called, with the digest of its weights."""
    weights = spec.get("weights_sha256")
    return str(spec.get(role, "unnamed")) + (f", weights SHA-256 {weights}" if weights else "")


def span(text: str) -> str:
    """Return a text as code, in which Markdown sees no markup."""
    shown = inert(text, _NAME_CHARACTERS)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if len(fence) > 1 or shown != shown.strip() or not shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _use(data: Materialised) -> str:
    images = ";".join(data.images) or "jpg"
    code = (
        "import datasets\n\n"
        'pairs = datasets.load_dataset("FOLDER", split="train", streaming=True)\n\n'
        "import glob, webdataset\n\n"
        'tars = sorted(glob.glob("FOLDER/**/*.tar", recursive=True))\n'
        "pairs = webdataset.WebDataset(tars, shardshuffle=False).decode('pil')"
        f".to_tuple('{images}', 'txt', 'json')\n"
    )
    return _fenced(code, "python")


def _toml(recipe: dict[str, Any]) -> str:
    """Return a recipe as TOML, in whose strings what would not show is escaped."""
    text = tomli_w.dumps(recipe)
    return "".join(c if c.isprintable() or c == "\n" else f"\\U{ord(c):08X}" for c in text)


def _provenance(told: Mapping[str, Any]) -> Iterator[str]:
    files = sum(len(shard["files"]) for shard in told["shards"])
    yield f"input: {span(Path(told['input']).name)}, {files:,} files"
    yield f"language model: SHA-256 `{told['language_model']}`"
    for path, digest in told["test_sets"].items():
        yield f"without the images of the test sets in {span(Path(path).name)}, digest `{digest}`"
    yield from (f"{name} {version}" for name, version in told["environment"].items())


def _feature(field: pa.Field) -> dict[str, Any]:
    return {"name": field.name} | _dtype(field.type)


def _dtype(kind: pa.DataType) -> dict[str, Any]:
    """Return a type by the names of `datasets`; what JSON knows no type for is text there."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _dtype(kind.value_type)
        return {"list": inner.get("dtype", [inner])}
    if pa.types.is_struct(kind):
        return {"struct": [_feature(kind.field(at)) for at in range(kind.num_fields)]}
    name = _DTYPES.get(str(kind), str(kind))
    known = _PLAIN.fullmatch(name) or name.startswith("float")
    return {"dtype": name if known else "string"}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---:", *["---"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _fenced(code: str, language: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    return f"{fence}{language}\n{code.strip()}\n{fence}"
