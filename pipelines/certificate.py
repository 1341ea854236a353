"""What an audit states: recall, false matches, and what other thresholds would have done."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from filters.nearest import Nearest
from filters.recipe import Recipe
from pipelines.hashes import MIN_QUALITY
from pipelines.planted import VARIANTS, WIDEST, detectors, reach
from pipelines.rates import at_most, rate, rate_of_groups, rate_of_pairs
from pipelines.schema import RADII

ANY = "any rule"
"""What the rules find together."""

GROUPS = {"benign": "benign copies", "strong": "other copies", "all": "all copies"}
"""What the summary is of."""

_BOUNDS = 16
_COSINES = (0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99)
_BENIGN = np.array([benign for _, _, benign in VARIANTS])


class Findings(NamedTuple):
    """What the rules found of the copies: (test images, variants)."""

    names: list[str]
    """Of the test images."""
    found: dict[str, NDArray[np.bool_]]
    """By the rule's name, and by `ANY`."""
    right: dict[str, NDArray[np.bool_]]
    """The same, where the nearest test image is the one that was copied."""
    widest: dict[str, NDArray[np.float64]]
    """The distance by the widest search, or the similarity, by rule; NaN where it is not known."""
    flat: NDArray[np.bool_]
    """Copies whose hashes mean nothing."""


def findings(recipe: Recipe, rows: pa.Table) -> Findings:
    """Spread the rows of copies over test images, in the order of names, and variants."""
    copies = rows.filter(pc.equal(rows["origin"], "copy"))
    names, image = np.unique(_values(copies["name"]), return_inverse=True)
    at = (image, _values(copies["variant"]))

    def spread(values: NDArray[Any], empty: Any) -> NDArray[Any]:
        grid = np.full((len(names), len(VARIANTS)), empty)
        grid[at] = values
        return grid

    found, right, widest = {}, {}, {}
    for rule in detectors(recipe):
        dropped = pc.is_valid(copies[f"{rule.name}_reason"])
        nearest = pc.fill_null(pc.equal(copies[rule.also_reads[0]], copies["name"]), False)
        found[rule.name] = spread(_values(dropped), False)
        right[rule.name] = spread(_values(pc.and_(dropped, nearest)), False)
        distance = pc.cast(copies[f"widest_{rule.column}"], pa.float64())
        widest[rule.name] = spread(_values(pc.fill_null(distance, np.nan)), np.nan)
    for grids in (found, right):
        grids[ANY] = np.logical_or.reduce(list(grids.values()))
    flat = spread(_values(copies["pdq_quality"]) < MIN_QUALITY, False)
    return Findings(names.tolist(), found, right, widest, flat)


def recall(told: Findings) -> list[dict[str, Any]]:
    """Return the recall of each transform and strength, for each rule and for all."""
    return [
        {"transform": name, "strength": strength, "benign": benign}
        | {"flat": int(told.flat[:, at].sum())}
        | {
            "rules": {
                rule: rate(int(found[:, at].sum()), len(found))._asdict()
                | {"right": int(told.right[rule][:, at].sum())}
                for rule, found in told.found.items()
            }
        }
        for at, (name, strength, benign) in enumerate(VARIANTS)
    ]


def summary(told: Findings) -> dict[str, dict[str, Any]]:
    """Return the recall of benign copies, of the others and of all, for each rule and for all."""
    groups = dict(zip(GROUPS, (_BENIGN, ~_BENIGN, _BENIGN | True), strict=True))
    return {
        group: {
            rule: rate_of_groups(found[:, chosen])._asdict() for rule, found in told.found.items()
        }
        for group, chosen in groups.items()
    }


def false_matches(recipe: Recipe, images: pa.Table, test_images: int) -> dict[str, Any]:
    """Count matches of images that are taken to be no test images.

    Args:
        recipe: The one that is audited.
        images: Rows of one origin.
        test_images: How many there are in the indexes whose hashes tell.

    Returns:
        By rule, and for all together: the share of images, and of pairs with a test image, where
        neither is too flat; a pair that two rules find counts twice among those of all together.
    """
    telling = _values(images["pdq_quality"]) >= MIN_QUALITY
    matches = {rule.name: _values(images[f"{rule.name}_pairs"]) for rule in detectors(recipe)}
    matches[ANY] = np.sum(list(matches.values()), axis=0).astype(np.int64)
    rules = {}
    for name, of_image in matches.items():
        pairs = rate_of_pairs(of_image[telling], test_images)
        rules[name] = {
            "images": rate(int((of_image > 0).sum()), len(of_image))._asdict(),
            "pairs": pairs._asdict() | {"at_most": at_most(pairs)},
        }
    return {"images": len(images), "flat": len(images) - int(telling.sum()), "rules": rules}


def sweep(
    recipe: Recipe, rule: Nearest, told: Findings, others: Mapping[str, pa.Table]
) -> list[dict[str, Any]]:
    """Return what other bounds of a rule would have found, and matched falsely.

    Args:
        recipe: The one that is audited.
        rule: One of its rules.
        told: What was found of copies.
        others: Rows that are no copies, by origin.
    """
    values = {
        name: _values(pc.fill_null(pc.cast(rows[f"widest_{rule.column}"], pa.float64()), np.nan))
        for name, rows in others.items()
    }
    found: Callable[[NDArray[Any], float], Any]
    if rule.column in RADII:
        most, configured = WIDEST[RADII[rule.column]], float(reach(rule, recipe))
        bounds = {*range(0, most + 1, -(-most // _BOUNDS)), most, configured} - {-1}
        found = np.less_equal
    else:
        configured = next((limit.bound for limit in rule.limits() if limit.bound), 1.0)
        bounds = {*_COSINES, configured}
        found = np.greater
    copies = told.widest[rule.name]
    return [
        {"bound": bound, "configured": bound == configured}
        | {"benign": rate_of_groups(found(copies[:, _BENIGN], bound))._asdict()}
        | {"all": rate_of_groups(found(copies, bound))._asdict()}
        | {
            name: rate(int(found(known, bound).sum()), len(known))._asdict()
            for name, known in values.items()
        }
        for bound in sorted(bounds)
    ]


def verdict(certificate: Mapping[str, Any]) -> list[str]:
    """Return the certificate in a few sentences."""
    benign, everything = (certificate["summary"][name][ANY] for name in ("benign", "all"))
    images = certificate["test_images"]["sampled"]
    sentences = [
        f"Of 100 benign copies of test images, {_hundred(benign)} are found; of 100 copies of all "
        f"{len(VARIANTS)} kinds, {_hundred(everything)}, judged by {images:,} test images."
    ]
    for origin, told in certificate["false_matches"].items():
        pairs, matched = told["rules"][ANY]["pairs"], told["rules"][ANY]["images"]["found"]
        whose = "known to be different" if origin == "different" else "of the corpus itself"
        several = (
            f"{matched:,} match{'es' * (matched == 1)} a test image"
            if matched
            else "none matches a test image"
        )
        sentences.append(
            f"Of {told['images']:,} images {whose}, {several}: {pairs['found']:,} of "
            f"{pairs['of']:,} pairs, so with 95 % confidence at most {pairs['at_most']:.1e} of all."
        )
    return sentences


def table(certificate: Mapping[str, Any]) -> str:
    """Return the recall of each transform and strength as lines of text, in percent."""
    rules = list(certificate["summary"]["all"])
    lines = [f"{'recall, %':<37}" + "".join(f"{rule:>17}" for rule in rules)]
    rows = [
        (f"{row['transform']} {row['strength']}".strip(), row["benign"], row["rules"])
        for row in certificate["recall"]
    ]
    groups = [(GROUPS[group], False, told) for group, told in certificate["summary"].items()]
    for label, benign, told in [*rows, ("", False, {}), *groups]:
        shares = (f"{100 * told[rule]['share']:>17.1f}" for rule in rules if told)
        lines.append(f"{label:<30}{'benign' if benign else '':<7}{''.join(shares)}".rstrip())
    return "\n".join(lines)


def _hundred(told: Mapping[str, Any]) -> str:
    ends = f"95 % interval {100 * told['low']:.1f} to {100 * told['high']:.1f}"
    return f"{100 * told['share']:.1f} ({ends})"


def _values(column: Any) -> NDArray[Any]:
    return column.to_numpy()
