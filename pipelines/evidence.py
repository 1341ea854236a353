"""What lets a person check an audit: the cases, their pictures, and what to bear in mind."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.recipe import Recipe
from pipelines.audit_plan import Audit
from pipelines.certificate import ANY, Findings
from pipelines.inputs import InputError
from pipelines.manifest import code_version
from pipelines.pictures import thumbnail
from pipelines.planted import VARIANTS, WIDEST, CorpusPart, detectors, make_copy, read_corpus
from pipelines.schema import RADII

_MOST_MISSED = 1000
_MOST_PICTURES = 24


def missed(found: Findings) -> list[dict[str, Any]]:
    """Return copies that no rule finds, the benign ones first, up to a thousand."""
    variants = sorted(range(len(VARIANTS)), key=lambda at: not VARIANTS[at][2])
    cases = (
        {"name": found.names[image], "variant": at}
        | dict(zip(("transform", "strength", "benign"), VARIANTS[at], strict=True))
        | {"too_flat": bool(found.flat[image, at])}
        | {"values": {r: _number(far[image, at]) for r, far in found.widest.items()}}
        for at in variants
        for image in np.flatnonzero(~found.found[ANY][:, at])
    )
    return [case for case, _ in zip(cases, range(_MOST_MISSED), strict=False)]


def matched(recipe: Recipe, rows: pa.Table) -> list[dict[str, Any]]:
    """Return images that a rule finds though they are no planted copies."""
    rules = detectors(recipe)
    hit = [pc.is_valid(rows[f"{rule.name}_reason"]) for rule in rules]
    several = hit[0]
    for one in hit[1:]:
        several = pc.or_(several, one)
    chosen = rows.filter(pc.and_(several, pc.not_equal(rows["origin"], "copy")))
    return [
        {name: row[name] for name in ("origin", "name", "shard", "row", "uid")}
        | {
            "rules": {
                rule.name: {"value": row[rule.column], "test_image": row[rule.also_reads[0]]}
                for rule in rules
                if row[f"{rule.name}_reason"]
            }
        }
        for row in chosen.to_pylist()
    ]


def agreement(audit: Audit, rows: pa.Table) -> dict[str, int] | None:
    """Count the sampled images that the run looked for, and those that it found as far away.

    Returns:
        None, if it looked elsewhere.
    """
    if not _same_indexes(audit):
        return None
    columns = [rule.column for rule in detectors(audit.recipe)]
    of_corpus = rows.filter(pc.equal(rows["origin"], "corpus"))
    now = {(row["shard"], row["row"]): row for row in of_corpus.to_pylist()}
    then = (
        (now.get((part.shard.name, place["row"])), place)
        for part in audit.corpus
        for place in part.places.to_pylist()
    )
    compared = [
        all(_equal(row[name], place[name]) for name in columns)
        for row, place in then
        if row and any(place[name] is not None for name in columns)
    ]
    return {"compared": len(compared), "equal": sum(compared)}


def _equal(value: float | None, other: float | None) -> bool:
    """Say whether two values are the same, but for what the size of a model's batch may change."""
    if value is None or other is None:
        return value is other
    return math.isclose(value, other, abs_tol=1e-4)


def _same_indexes(audit: Audit) -> bool:
    used = set(audit.manifest["test_sets"].values())
    return used == {index.about["digest"] for index in audit.indexes}


def warnings(audit: Audit, stated: Mapping[str, Any]) -> Iterator[str]:
    """Yield why the certificate may not be about what the run did."""
    used = audit.manifest["test_sets"]
    if not used:
        yield (
            "The run itself looked for no test images, as its recipe names no index: this says "
            "what its rules would have found."
        )
    elif not _same_indexes(audit):
        yield (
            f"The run looked in other indexes, {', '.join(used)}: this says what its rules would "
            "have found in those given here."
        )
    if audit.manifest["altmill"] != code_version():
        yield (
            f"The run was made by altmill {audit.manifest['altmill']}, and is audited by "
            f"{code_version()}."
        )
    agreed = stated["agreement"]
    if agreed and agreed["equal"] < agreed["compared"]:
        yield (
            f"Of {agreed['compared']:,} sampled images that the run looked for, it found "
            f"{agreed['compared'] - agreed['equal']:,} at another distance than the audit does: "
            "something has changed since; run filter again."
        )


def notes(audit: Audit, stated: Mapping[str, Any]) -> Iterator[str]:
    """Yield what else a reader must know."""
    agreed, tested = stated["agreement"], stated["test_images"]
    if agreed and agreed["compared"] and agreed["equal"] == agreed["compared"]:
        yield (
            f"The audit finds all {agreed['compared']:,} sampled images that the run looked for at "
            "the distance that the run found."
        )
    if tested["too_flat"]:
        yield (
            f"{tested['too_flat']:,} of the {tested['of']:,} test images are too flat for hashes: "
            f"of those only the same file is found. {tested['sampled_too_flat']:,} of them are "
            "among the copied ones, and their copies count as missed."
        )
    false = stated["false_matches"]
    flat = sum(told["flat"] for told in false.values())
    if flat:
        yield (
            f"Too flat for hashes are {flat:,} of the other images: only the same file as a test "
            "image is found among them."
        )
    if stated["damaged"]:
        yield f"{stated['damaged']:,} sampled images cannot be decoded, and are left out here."
    if false["corpus"]["rules"][ANY]["images"]["found"]:
        yield (
            "Every match of the corpus is counted as false, though it may be a true copy: what is "
            "stated is an upper bound. The pictures tell which it is."
        )
    elif "different" not in false:
        yield "The corpus's own images stand for different ones; --different PATH takes others."
    others = [rule.name for rule in audit.recipe.rules if rule not in detectors(audit.recipe)]
    if others:
        yield (
            "The copies are judged by the rules on test images alone; what others of the recipe "
            f"drop ({', '.join(others)}) is not counted."
        )


def pictures(
    audit: Audit, stated: Mapping[str, Any], found: Findings, copied: Mapping[str, bytes]
) -> dict[str, list[dict[str, Any]]]:
    """Return pictures: of all kinds of copies, of some missed ones, and of matched images."""
    recipe, seed = audit.recipe, audit.plan.seed
    example = found.names[int(found.flat[:, 0].argmin())]  # the first one that is not flat
    files = (make_copy(recipe, copied[example], at, seed) for at in range(len(VARIANTS)))
    kinds = [
        {"label": f"{name} {strength}".strip(), "benign": benign}
        | {"picture": thumbnail(data, recipe.images.max_pixels)}
        for (name, strength, benign), data in zip(VARIANTS, files, strict=True)
    ]
    return {
        "kinds": kinds,
        "missed": [_missed_card(audit, case, copied) for case in _varied(stated["missed"])],
        "matched": _matched_cards(audit, stated["matched"]),
    }


def _varied(cases: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choose cases of different kinds, and of different images as far as that goes."""
    by_kind: dict[int, list[dict[str, Any]]] = {}
    for case in cases:
        by_kind.setdefault(case["variant"], []).append(case)
    return [some[n % len(some)] for n, some in enumerate(by_kind.values())][:_MOST_PICTURES]


def _missed_card(audit: Audit, case: dict[str, Any], copied: Mapping[str, bytes]) -> dict[str, Any]:
    limit, data = audit.recipe.images.max_pixels, copied[case["name"]]
    copy = make_copy(audit.recipe, data, case["variant"], audit.plan.seed)
    return case | {"test_picture": thumbnail(data, limit), "picture": thumbnail(copy, limit)}


def _matched_cards(audit: Audit, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    limit = audit.recipe.images.max_pixels
    shown = sorted(cases, key=_apart)[:_MOST_PICTURES]
    images = dict(_images(audit, shown))
    tests = {told["test_image"] for case in shown for told in case["rules"].values()}
    originals = dict(_test_images(audit, tests))
    cards = []
    for case in shown:
        name = next(iter(case["rules"].values()))["test_image"]
        files = {"picture": images.get(case["name"]), "test_picture": originals.get(name)}
        drawn = {key: data and thumbnail(data, limit) for key, data in files.items()}
        cards.append(case | drawn | {"test_image": name})
    return cards


def _images(audit: Audit, cases: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of matched images by name."""
    for part in audit.corpus:
        rows = [case["row"] for case in cases if case["shard"] == part.shard.name]
        chosen = part.places.filter(pc.is_in(part.places["row"], pa.array(rows, pa.int64())))
        if len(chosen):
            names = (f"{part.shard.name}/{key}" for key in chosen["key"].to_pylist())
            yield from zip(names, read_corpus(CorpusPart(part.shard, chosen)), strict=True)
    wanted = {case["name"] for case in cases if case["origin"] == "different"}
    for other in audit.different if wanted else ():
        yield from other.read(wanted)


def _test_images(audit: Audit, names: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of test images; none, if one is not there any more."""
    for index in audit.indexes:
        joined = index.names(np.arange(len(index.entries)))
        entries = index.entries.filter(pc.is_in(joined, pa.array(sorted(names), pa.string())))
        try:
            yield from audit.read(entries)
        except InputError:  # the sample is whole; a picture is no reason to end here
            continue


def _apart(case: dict[str, Any]) -> float:
    """Return how far a match is from its test image, as a share of what it may be."""
    shares = (
        told["value"] / WIDEST[RADII[name]] if name in RADII else 1 - told["value"]
        for name, told in case["rules"].items()
    )
    return float(min(shares))


def _number(value: float) -> float | None:
    if np.isnan(value):
        return None
    return int(value) if value == int(value) else round(value, 4)
