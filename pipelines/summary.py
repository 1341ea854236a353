"""Gather what the report shows, from a run's account, manifest and tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tomli_w

from filters.decision import all_rules
from filters.rule import Rule
from pipelines import duplicates, statistics
from pipelines.exchange import Run
from pipelines.hashes import MIN_QUALITY
from pipelines.inputs import Shard
from pipelines.pictures import add_pictures
from pipelines.schema import ALIASES, NEAREST, NEEDED, RADII
from pipelines.shard_table import rows_of

_TOP = 50
_MASKS = 40
_CURVE_POINTS = 100
_DAMAGES = 20


def summarise(account: dict[str, Any], manifest: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return what `report.render` shows."""
    rules = all_rules(run.recipe.rules)
    return {
        "title": run.recipe.name,
        "recipe": manifest["recipe"],
        "recipe_toml": tomli_w.dumps(manifest["recipe"]),
        "recipe_digest": manifest["recipe_digest"],
        "code_version": manifest["altmill"],
        "input": manifest["input"],
        "output": str(run.home),
        "rows_in": manifest["rows_in"],
        "kept": manifest["kept"],
        "dropped": manifest["dropped"],
        "rules": [_rule(rule, bit, account, manifest) for bit, rule in enumerate(rules)],
        "masks": _masks(account, rules),
        "histograms": _histograms(account),
        "categories": {name: _category(*sides) for name, sides in account["categories"].items()},
        "top_texts": _top(run.measured, "texts", "text"),
        "top_images": _top(run.measured, "images", "image"),
        "ngrams": _ngrams(account, run),
        "examples": _examples(account, manifest, run),
        "shards": rows_of(manifest, run.output),
        "warnings": _warnings(account, manifest, run),
        "notes": _notes(account, manifest, run),
    }


def _rule(
    rule: Rule, bit: int, account: dict[str, Any], manifest: dict[str, Any]
) -> dict[str, Any]:
    masks = {int(mask): rows for mask, rows in account["masks"].items()}
    limits = {str(limit): limit for limit in rule.limits()}.values()
    rows = manifest["rows_in"]
    return {
        "name": rule.name,
        "what": rule.what,
        "title": rule.threshold,
        "column": rule.column,
        "limits": [{"op": x.op, "value": x.bound, "reason": x.reason} for x in limits],
        "broken": sum(n for mask, n in masks.items() if mask >> bit & 1),
        "first": sum(n for mask, n in masks.items() if mask & -mask == 1 << bit),
        "only": masks.get(1 << bit, 0),
        "unjudged": _unjudged(rule, account),
        "skipped": _why_skipped(rule) if rows and _unjudged(rule, account) == rows else None,
    }


def _unjudged(rule: Rule, account: dict[str, Any]) -> int:
    return account["unjudged"].get(rule.name, 0)  # intact judges every row


def _why_skipped(rule: Rule) -> str:
    if rule.column in NEAREST:
        model = " and embedding.model" if rule.column not in RADII else ""
        return f"no row has {rule.column}, which needs test_sets.indexes{model}"
    needed = [" or ".join(ALIASES[name]) for name in NEEDED.get(rule.column, ())]
    return f"no row has {rule.column}" + "".join(f"; the input has no {name}" for name in needed)


def _masks(account: dict[str, Any], rules: list[Rule]) -> list[dict[str, Any]]:
    broken = [(int(mask), rows) for mask, rows in account["masks"].items() if int(mask)]
    broken.sort(key=lambda pair: (-pair[1], pair[0]))
    return [
        {"rules": [r.name for bit, r in enumerate(rules) if mask >> bit & 1], "rows": rows}
        for mask, rows in broken[:_MASKS]
    ]


def _histograms(account: dict[str, Any]) -> dict[str, Any]:
    shown = {}
    for name, counts in account["histograms"].items():
        if any(counts["kept"]) or any(counts["dropped"]):
            scale, edges = statistics.edges(name)
            shown[name] = {"edges": edges, "scale": scale} | counts
    return shown


def _category(kept: dict[str, int], dropped: dict[str, int]) -> list[list[Any]]:
    names = sorted(kept | dropped, key=lambda n: (-kept.get(n, 0) - dropped.get(n, 0), n))
    return [[name, kept.get(name, 0), dropped.get(name, 0)] for name in names]


def _table(output: Path, table: str) -> list[Path]:
    return sorted((output / "tables" / table).glob("*.parquet"))


def _top(output: Path, table: str, name: str) -> list[list[Any]]:
    rows = _ranks(output, table, range(1, _TOP + 1))
    return [[row[name][:400], row["count"]] for row in rows]


def _ranks(output: Path, table: str, ranks: range) -> list[dict[str, Any]]:
    """Read consecutive rows of a ranked table."""
    found, before = [], 0
    for path in _table(output, table):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if before < ranks.stop - 1 and before + rows >= ranks.start:
                    start = max(0, ranks.start - 1 - before)
                    part = file.read_row_group(group).slice(start, ranks.stop - 1 - before - start)
                    found += part.to_pylist()
                before += rows
    return found


def _ngrams(account: dict[str, Any], run: Run) -> dict[str, Any]:
    facts = account.get("tables", {}).get("ngrams", {})
    listed = facts.get("listed", 0)
    limit = _allowed(run)
    cut: Any = None
    around: list[Any] = []
    if limit is not None and 0 < limit < listed:
        near = _ranks(run.measured, "ngrams", range(max(1, limit - 5), limit + 7))
        around = [[row["rank"], row["ngram"], row["count"]] for row in near]
        cut = next(row for row in near if row["rank"] == limit)
    most = _ranks(run.measured, "ngrams", range(1, 21))
    return {
        "distinct": facts.get("distinct", 0),
        "occurrences": facts.get("occurrences", 0),
        "listed": listed,
        "limit": limit,
        "cut": cut,
        "most": [[row["ngram"], row["count"]] for row in most],
        "around_cut": around,
        "rank_counts": _curve(run.measured, listed),
    }


def _allowed(run: Run) -> int | None:
    """Return how many n-grams the recipe allows."""
    bounds = [
        x.bound for rule in run.recipe.rules if rule.name == "ngram_rank" for x in rule.limits()
    ]
    return int(bounds[0]) if bounds and bounds[0] is not None else None


def _curve(output: Path, listed: int) -> list[list[int]]:
    """Return about a hundred points of count against rank, evenly spaced in the logarithm."""
    wanted = np.unique(np.geomspace(1, max(1, listed), _CURVE_POINTS).astype(np.int64)) - 1
    points, before = [], 0
    for path in _table(output, "ngrams"):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                here = wanted[(wanted >= before) & (wanted < before + rows)]
                if len(here):
                    counts = file.read_row_group(group, ["count"])["count"].to_numpy()
                    points += [[int(at) + 1, int(counts[at - before])] for at in here]
                before += rows
    return points


def _examples(
    account: dict[str, Any], manifest: dict[str, Any], run: Run
) -> dict[str, list[dict[str, Any]]]:
    examples = account["examples"]
    order = [*manifest["dropped"], "kept"]
    shards = [Shard.restored(shard, run.source) for shard in manifest["shards"]]
    add_pictures([row for rows in examples.values() for row in rows], shards, run.recipe)
    return {reason: examples[reason] for reason in order if reason in examples}


def _warnings(account: dict[str, Any], manifest: dict[str, Any], run: Run) -> list[str]:
    rows, guard = manifest["rows_in"], run.recipe.max_drop_share
    found = []
    for bit, rule in enumerate(all_rules(run.recipe.rules)):
        broken = _rule(rule, bit, account, manifest)["broken"]
        if rows and broken > guard * rows:
            found.append(
                f"{rule.name} is broken by {broken:,} of {rows:,} rows, more than the recipe's "
                f"max_drop_share of {guard:.0%}."
            )
    damages = [f"Shard {s['shard']}: {d}." for s in manifest["shards"] for d in s["damage"]]
    found += damages[:_DAMAGES]
    if len(damages) > _DAMAGES:
        found.append(f"{len(damages) - _DAMAGES} more damaged places are in manifest.json.")
    images = any(shard["kind"] != "metadata" for shard in manifest["shards"])
    if run.recipe.images.decode and images and manifest["kept_unchecked"]:
        found.append(
            f"{manifest['kept_unchecked']:,} kept rows were never decoded, because the recipe that "
            "they were measured with dropped them; run filter to find damaged images among them."
        )
    return found


def _notes(account: dict[str, Any], manifest: dict[str, Any], run: Run) -> list[str]:
    facts = account.get("tables", {}).get("ngrams", {})
    notes = []
    distinct, allowed = facts.get("distinct", 0), _allowed(run)
    if allowed is not None and distinct <= allowed:
        notes.append(
            f"The corpus has {distinct:,} distinct n-grams, no more than the {allowed:,} that are "
            "allowed, so ngram_rank drops nothing."
        )
    flat = sum(
        account["histograms"]["pdq_quality"][side][at]
        for side in ("kept", "dropped")
        for at in range(MIN_QUALITY)
    )
    if flat:
        notes.append(
            f"Too flat for hashes (PDQ quality below {MIN_QUALITY}) are {flat:,} of the images: "
            "only a test image of the same bytes is found in them."
        )
    images = any(shard["kind"] != "metadata" for shard in manifest["shards"])
    if images and run.recipe.images.decode:
        notes.append("Pixels are decoded only for rows that every other rule keeps.")
    notes += duplicates.notes_on(manifest["duplicates"])
    if manifest["subset_uids"] < manifest["kept"]:
        notes.append(
            f"The {manifest['kept']:,} kept rows have {manifest['subset_uids']:,} distinct uids."
        )
    return notes
