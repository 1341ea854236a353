"""The Croissant file of a data set, as https://docs.mlcommons.org/croissant/docs/ asks for it.

`cr`, `rai` and `sc` stand for the vocabularies of Croissant, of its extension for responsible AI
(https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html), and of schema.org.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from pipelines.card import LICENSE, captions, funnel, model_name
from pipelines.materialised import Materialised
from pipelines.page import inert

NAME = "croissant.json"
VERSION = "http://mlcommons.org/croissant/1.1"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    **{
        name: f"cr:{name}"
        for name in (
            *("citeAs", "column", "containedIn", "equivalentProperty", "extract", "field"),
            *("fileObject", "fileProperty", "fileSet", "format", "includes", "isLiveDataset"),
            *("jsonPath", "key", "md5", "parentField", "path", "recordSet", "references"),
            *("regex", "repeated", "replace", "samplingRate", "separator", "source", "subField"),
            "transform",
        )
    },
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
"""The prefixes and terms that the specification's own examples declare."""

_MEDIA_TYPES = {"jpg": "image/jpeg"}
_NAME_CHARACTERS = 200


def croissant(data: Materialised) -> dict[str, Any]:
    """Return what the file says."""
    told = data.manifest
    account = "; ".join(f"{rows} {what.replace('`', '')}" for rows, what in funnel(data))
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": inert(told["recipe"]["name"], _NAME_CHARACTERS),
        "description": f"{data.samples:,} pairs of an image and a caption. License: {LICENSE}",
        "conformsTo": VERSION,
        "rai:dataPreprocessingProtocol": [
            f"Filtered by altmill {told['altmill']} and the recipe of SHA-256 "
            f"{told['recipe_digest']}, which README.md has in full: {account}."
        ],
        "rai:dataManipulationProtocol": [line.replace("`", "") for line in captions(data)],
        "rai:machineAnnotationTools": list(_tools(data)),
        "distribution": [
            *(_file(name, digest) for name, digest in data.files.items()),
            *(_images(data, extension) for extension in data.images),
            *_tables(data),
        ],
        "recordSet": [*_pairs(data), *map(_pictures, data.images)],
    }


def _tools(data: Materialised) -> Iterable[str]:
    for spec in data.captioning.get("captioners", {}).values():
        yield inert(model_name(spec, "captioner"), _NAME_CHARACTERS)
    if data.captioning.get("scorer"):
        yield inert(model_name(data.captioning["scorer"], "scorer"), _NAME_CHARACTERS)


def _file(name: str, digest: str) -> dict[str, Any]:
    kind = "application/x-tar" if name.endswith(".tar") else "application/x-parquet"
    return {
        "@type": "cr:FileObject",
        "@id": quote(name),
        "name": name,
        "contentUrl": name,
        "encodingFormat": kind,
        "sha256": digest,
    }


def _images(data: Materialised, extension: str) -> dict[str, Any]:
    kind = _MEDIA_TYPES.get(extension, f"image/{extension}")
    return _file_set(f"{extension}-images", data.sizes, f"*.{extension}", kind)


def _tables(data: Materialised) -> list[dict[str, Any]]:
    """Return the parquet files as a set, within nothing, so that mlcroissant 1.1 can read it."""
    if not len(data.columns):
        return []
    return [_file_set("tables", (), "*.parquet", "application/x-parquet")]


def _file_set(name: str, within: Iterable[str], pattern: str, kind: str) -> dict[str, Any]:
    containers = [{"@id": quote(file)} for file in within]
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        **({"containedIn": containers} if containers else {}),
        "includes": pattern,
        "encodingFormat": kind,
    }


def _pairs(data: Materialised) -> list[dict[str, Any]]:
    if not len(data.columns):
        return []
    fields = [
        _field("pairs", field.name, kind, {"fileSet": "tables", "extract": {"column": field.name}})
        for field in data.columns
        if (kind := _data_type(field.type))
    ]
    what = "A row per pair. key names its files in the tar beside the parquet that it is in."
    return [_record_set("pairs", what, fields)]


def _pictures(extension: str) -> dict[str, Any]:
    name, files = f"{extension}_images", f"{extension}-images"
    key = {"fileProperty": "fullpath", "regex": rf"^(.*)\.{extension}$"}
    fields = [
        _field(name, "key", "sc:Text", {"fileSet": files, "extract": key}),
        _field(
            name,
            "image",
            "sc:ImageObject",
            {"fileSet": files, "extract": {"fileProperty": "content"}},
        ),
    ]
    return _record_set(name, "The images, by their keys.", fields)


def _record_set(name: str, what: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": what} | {
        "field": fields
    }


def _field(of: str, name: str, kind: str, source: Mapping[str, Any]) -> dict[str, Any]:
    extract = dict(source["extract"])
    pattern = extract.pop("regex", None)
    told = {"fileSet": {"@id": source["fileSet"]}, "extract": extract}
    return {
        "@type": "cr:Field",
        "@id": f"{of}/{quote(name, safe='')}",
        "name": f"{of}/{name}",
        "dataType": kind,
        "source": told | ({"transform": {"regex": pattern}} if pattern else {}),
    }


def _data_type(kind: pa.DataType) -> str:
    """Return a column's type by Croissant's names; none of what it has no name for."""
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    return "sc:Text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else ""
