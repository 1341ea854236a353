"""Gather what the report shows, from a run's account, manifest and tables."""

from pathlib import Path
from typing import Any

import tomli_w

from filters.decision import all_rules
from filters.rule import Rule
from pipelines import duplicates, statistics
from pipelines.corpus_summary import ngrams_allowed, summarise_corpus
from pipelines.exchange import Run
from pipelines.hashes import MIN_QUALITY
from pipelines.inputs import Shard
from pipelines.pictures import add_pictures
from pipelines.schema import ALIASES, NEAREST, NEEDED, RADII
from pipelines.shard_table import judge_shards, rows_of
from pipelines.what_if import packed
from recaption.choice import STATISTICS
from recaption.files import read_json

_MASKS = 40
_DAMAGES = 20
_NAMED_SHARDS = 5


def summarise(account: dict[str, Any], manifest: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return what `report.render` shows."""
    rules, chosen = all_rules(run.recipe.rules), _captions(run.output)
    return {
        "title": run.recipe.name,
        "recipe": manifest["recipe"],
        "recipe_toml": tomli_w.dumps(manifest["recipe"]),
        "recipe_digest": manifest["recipe_digest"],
        "code_version": manifest["altmill"],
        "input": manifest["input"],
        "rows_in": manifest["rows_in"],
        "kept": manifest["kept"],
        "dropped": manifest["dropped"],
        "rules": [_rule(rule, bit, account, manifest) for bit, rule in enumerate(rules)],
        "masks": _masks(account, rules),
        "histograms": _histograms(account),
        "categories": {n: _category(*account["categories"][n]) for n in statistics.CATEGORIES},
        "examples": _examples(account, manifest, run),
        "shards": rows_of(manifest, run.output),
        "warnings": [*_warnings(account, manifest, run), *_stale(chosen, manifest)],
        "notes": _notes(account, manifest, run),
        "what_if": _what_if(account, manifest, run),
        "captions": chosen,
    } | summarise_corpus(account, run)


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
    for name in statistics.histograms():
        counts = account["histograms"][name]
        if any(counts["kept"]) or any(counts["dropped"]):
            scale, edges = statistics.edges(name)
            shown[name] = {"edges": edges, "scale": scale} | counts
    return shown


def _category(kept: dict[str, int], dropped: dict[str, int]) -> list[list[Any]]:
    names = sorted(kept | dropped, key=lambda n: (-kept.get(n, 0) - dropped.get(n, 0), n))
    return [[name, kept.get(name, 0), dropped.get(name, 0)] for name in names]


def _examples(
    account: dict[str, Any], manifest: dict[str, Any], run: Run
) -> dict[str, list[dict[str, Any]]]:
    examples = account["examples"]
    order = [*manifest["dropped"], "kept"]
    shards = [Shard.restored(shard, run.source) for shard in manifest["shards"]]
    add_pictures([row for rows in examples.values() for row in rows], shards, run)
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
    found += _skipped(account, manifest, run)
    found += _outliers(manifest, run)
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


def _skipped(account: dict[str, Any], manifest: dict[str, Any], run: Run) -> list[str]:
    rules = enumerate(all_rules(run.recipe.rules))
    told = [_rule(rule, bit, account, manifest) for bit, rule in rules]
    return [f"{r['name']} did not run: {r['skipped']}." for r in told if r["skipped"]]


def _outliers(manifest: dict[str, Any], run: Run) -> list[str]:
    table = judge_shards(rows_of(manifest, run.output))
    far = sorted((row for row in table.rows if row["outlier"]), key=lambda row: -row["away"])
    if not far:
        return []
    names = ", ".join(f"{row['shard']} ({row['share']:.1%})" for row in far[:_NAMED_SHARDS])
    more = f" and {len(far) - _NAMED_SHARDS:,} more" if len(far) > _NAMED_SHARDS else ""
    return [
        f"Far from the others, which keep {table.median:.1%} of their rows, "
        f"{'is shard' if len(far) == 1 else 'are the shards'} {names}{more}."
    ]


def _what_if(account: dict[str, Any], manifest: dict[str, Any], run: Run) -> dict[str, Any] | None:
    """Tell what a page needs to turn thresholds; None where the recipe has none."""
    if "what_if" not in account:
        return None
    rule = run.recipe.duplicate
    images = any(shard["kind"] != "metadata" for shard in manifest["shards"])
    return packed(account["what_if"]) | {
        "decodes": run.recipe.images.decode and images,
        "copies": rule and {"reason": rule.limits()[0].reason, "near": rule.near},
    }


def _captions(output: Path) -> dict[str, Any] | None:
    """Read what captions were chosen, if any were."""
    path = output / "captions" / STATISTICS
    return read_json(path) if path.exists() else None


def _stale(captions: dict[str, Any] | None, manifest: dict[str, Any]) -> list[str]:
    if captions is None or captions["kept_before"] == manifest["kept"]:
        return []
    return [
        f"The captions were chosen when {captions['kept_before']:,} rows were kept, not "
        f"{manifest['kept']:,}; run python -m recaption choose."
    ]


def _notes(account: dict[str, Any], manifest: dict[str, Any], run: Run) -> list[str]:
    facts = account.get("tables", {}).get("ngrams", {})
    notes = []
    distinct, allowed = facts.get("distinct", 0), ngrams_allowed(run)
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
