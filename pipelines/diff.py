"""Compare two runs: their account, the drift of each column, the pairs whose verdict changed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines import statistics
from pipelines.decide import decisions_path
from pipelines.drift import LARGE, SOME, Drift, of_categories, of_histogram
from pipelines.inputs import Shard
from pipelines.measure import columns_path
from pipelines.page import inert, share
from pipelines.pictures import read_rows, thumbnail
from pipelines.verdicts import ABSENT, KEPT, Change, Changes, Example, compare_verdicts
from recaption.manifest import input_folder, measured_folder, read_manifest
from recaption.stores import readable

FATES = {
    "gone": "kept in A, dropped in B",
    "back": "dropped in A, kept in B",
    "moved": "dropped in both, for another reason",
    "only_a": "only in A",
    "only_b": "only in B",
}
"""What may have become of a pair whose verdict is not the same."""
SIDES = ("a", "b")
_SHOWN = 20
_TEXT_CHARS = 400
_LINE_CHARS = 60
_READ = ("uid", "key", "caption", "url", "image_offset", "image_bytes")

Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Run:
    """A run's output, and what it says of itself."""

    output: Path
    manifest: Told
    statistics: Told

    @classmethod
    def opened(cls, output: Path) -> "_Run":
        return cls(output, read_manifest(output), statistics.read_statistics(output))


def compare_runs(a: Path, b: Path, workers: int = 1) -> Told:
    """Compare two runs; return what the page and the JSON say.

    Raises:
        ManifestError: One of them is not complete.
    """
    runs = [_Run.opened(output) for output in (a, b)]
    manifests = [run.manifest for run in runs]
    changes = compare_verdicts(a, b, manifests, workers)
    return {
        "runs": {side: _about(run) for side, run in zip(SIDES, runs, strict=True)},
        "recipe": list(_changed(*(manifest["recipe"] for manifest in manifests))),
        "funnel": list(_funnel(*manifests)),
        "drift": [asdict(one) | {"reading": one.reading} for one in _drifts(*runs)],
        "distributions": _distributions(*runs),
        "pairs": _account(changes),
        "changes": [_told(runs, change, changes) for change in _order(changes)],
    }


def differs(told: Told) -> bool:
    """Say whether a pair's verdict is not the same in both."""
    return any(told["pairs"][fate] for fate in FATES)


def described(told: Told) -> str:
    """Say it in lines, for a terminal."""
    lines = [f"{side.upper()}  {_named(told['runs'][side])}" for side in SIDES]
    lines += ["", f"{'':<32}{'A':>12}{'B':>12}{'change':>12}"]
    for row in told["funnel"]:
        numbers = "".join(f"{row[side]:>12,}" for side in SIDES)
        lines.append(f"{row['what']:<32}{numbers}{row['b'] - row['a']:>+12,}")
    lines += [f"{row['what']}: {row['a']} -> {row['b']}" for row in told["recipe"]]
    pairs = told["pairs"]
    lines += [
        "",
        f"{pairs['both']:,} pairs are in both, joined by uid, {pairs['aligned']:,} of them row by "
        f"row; {pairs['same']:,} have the same verdict",
    ]
    lines += [f"{pairs[fate]:>12,}  {what}" for fate, what in FATES.items() if pairs[fate]]
    for change in told["changes"]:
        shown = change["examples"][0]
        example = f"{shown['uid']} {inert(shown['caption'] or '', _LINE_CHARS)!r}"
        lines.append(f"{change['pairs']:>12,}    {change['a']} -> {change['b']}, as {example}")
    return "\n".join([*lines, "", *_drift_lines(told["drift"])])


def _drift_lines(drifts: list[Told]) -> Iterator[str]:
    told = [one for one in drifts if one["reading"] != "chance"]
    if not told:
        yield "no column drifts by more than chance"
        return
    yield (
        f"drift by the population stability index (PSI): some from {SOME} on, large above {LARGE}; "
        "W is the Wasserstein distance"
    )
    for one in sorted(told, key=lambda one: -one["psi"]):
        far = one["wasserstein"]
        distance = "" if far is None else f"W {far:.4g} {one['unit']}"
        index = f"PSI {one['psi']:<8.3f}{one['reading']:<7}"
        yield f"  {one['column']:<22}{one['of']:<6}{index}{distance}"


def _named(about: Told) -> str:
    kept = f"{about['kept']:,} of {about['rows_in']:,} kept"
    return f"{about['output']}: recipe {about['recipe']} {about['digest'][:12]}, {kept}"


def _about(run: _Run) -> Told:
    told = run.manifest
    return {
        "output": str(run.output),
        "input": told["input"],
        "recipe": told["recipe"]["name"],
        "digest": told["recipe_digest"],
        "altmill": told["altmill"],
        "rows_in": told["rows_in"],
        "kept": told["kept"],
    }


def _changed(a: Any, b: Any, path: str = "") -> Iterator[Told]:
    """Yield what of two recipes is not the same; what one of them lacks is `none` there."""
    sides = [side if isinstance(side, dict) else {} for side in (a, b)]
    names = sides[0] | sides[1]
    for name in names:
        below = f"{path}.{name}" if path else str(name)
        yield from _changed(sides[0].get(name, "none"), sides[1].get(name, "none"), below)
    if not names and a != b:
        yield {"what": path, "a": inert(str(a), _TEXT_CHARS), "b": inert(str(b), _TEXT_CHARS)}


def _funnel(a: Told, b: Told) -> Iterator[Told]:
    def row(what: str, *rows: int) -> Told:
        shares = (share(n, of["rows_in"]) for n, of in zip(rows, (a, b), strict=True))
        return {"what": what, "a": rows[0], "b": rows[1]} | dict(
            zip(("share_a", "share_b"), shares, strict=True)
        )

    yield row("rows in", a["rows_in"], b["rows_in"])
    for reason in a["dropped"] | b["dropped"]:
        yield row(reason, a["dropped"].get(reason, 0), b["dropped"].get(reason, 0))
    yield row(KEPT, a["kept"], b["kept"])


def _drifts(a: _Run, b: _Run) -> Iterator[Drift]:
    """Measure the drift of each column that a run has, over all rows and over those kept."""
    sides = (a, b)
    for column in statistics.histograms():
        if all(column in run.statistics["histograms"] for run in sides):
            scale, edges = statistics.edges(column)
            for of in ("all", KEPT):
                counts = [_bins(run, column, of) for run in sides]
                if any(any(side[:-1]) for side in counts):
                    yield of_histogram((column, of), edges, scale, *counts)
    for column in statistics.CATEGORIES:
        for of in ("all", KEPT):
            labels = [_labels(run, column, of) for run in sides]
            if any(labels):
                yield of_categories((column, of), *labels)


def _distributions(*runs: _Run) -> dict[str, Told]:
    """Return the histogram of each column over the rows that each run kept, as shares of these."""
    found = {}
    for column in statistics.histograms():
        if all(column in run.statistics["histograms"] for run in runs):
            scale, edges = statistics.edges(column)
            counts = [_bins(run, column, KEPT)[:-1] for run in runs]
            if any(map(any, counts)):
                shares = [[n / max(1, sum(side)) for n in side] for side in counts]
                sides = dict(zip(SIDES, shares, strict=True))
                found[column] = {"scale": scale, "edges": edges} | sides
    return found


def _bins(run: _Run, column: str, of: str) -> list[int]:
    """Return the rows in each bin, and last those without a value."""
    found = run.statistics["histograms"][column]
    if of == "all":
        both = zip(found[KEPT], found["dropped"], strict=True)
        return [*map(sum, both), found["missing"]]
    return [*found[KEPT], run.manifest["kept"] - sum(found[KEPT])]


def _labels(run: _Run, column: str, of: str) -> dict[str, int]:
    kept, dropped = run.statistics["categories"][column]
    return dict(Counter(kept) + Counter(dropped if of == "all" else {}))


def _fate(change: Change) -> str:
    a, b = change
    if ABSENT in change:
        return "only_b" if a == ABSENT else "only_a"
    if a == b:
        return "same"
    return "gone" if a == KEPT else "back" if b == KEPT else "moved"


def _account(changes: Changes) -> Told:
    counts: Counter[str] = Counter()
    for change, pairs in changes.counts.items():
        counts[_fate(change)] += pairs
    known = {name: counts[name] for name in ("same", *FATES)}
    both = counts.total() - counts["only_a"] - counts["only_b"]
    return {"both": both, "aligned": changes.aligned} | known


def _order(changes: Changes) -> list[Change]:
    """Return the changes to show, the commonest first."""
    changed = (change for change in changes.counts if _fate(change) != "same")
    return sorted(changed, key=lambda change: (-changes.counts[change], change))[:_SHOWN]


def _told(runs: list[_Run], change: Change, changes: Changes) -> Told:
    examples = [_example(runs, example) for example in changes.examples[change]]
    told = {"a": change[0], "b": change[1], "pairs": changes.counts[change]}
    return told | {"fate": _fate(change), "examples": examples}


def _example(runs: list[_Run], example: Example) -> Told:
    """Return a pair as each run has it, with its picture."""
    places = (example.a, example.b)
    found = {
        side: None if place is None else _row(run, *place)
        for side, run, place in zip(SIDES, runs, places, strict=True)
    }
    known = next(row for row in found.values() if row)
    run, place = next((r, p) for r, p in zip(runs, places, strict=True) if p)
    verdicts = {
        side: row and {name: row[name] for name in ("reason", "value", "threshold")}
        for side, row in found.items()
    }
    shown = {name: known[name] for name in ("uid", "key", "caption", "url")}
    return shown | verdicts | {"shard": place[0], "picture": _picture(run, place, known)}


def _row(run: _Run, shard: str, at: int) -> Told:
    """Read a row's columns and decision."""
    measured = columns_path(measured_folder(run.output, run.manifest), shard)
    columns = _at(measured, at, _READ)
    decision = _at(decisions_path(run.output, shard), at, ("reason", "value", "threshold"))
    row = columns | decision
    return {name: _cut(value) for name, value in row.items()}


def _at(path: Path, at: int, names: tuple[str, ...]) -> Told:
    """Read a row of a parquet, and no more than its row group."""
    with pq.ParquetFile(readable(path)) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if at < rows:
                row: Told = file.read_row_group(group, list(names)).slice(at, 1).to_pylist()[0]
                return row
            at -= rows
    return dict.fromkeys(names)


def _cut(value: Any) -> Any:
    return value[:_TEXT_CHARS] if isinstance(value, str) else value


def _picture(run: _Run, place: tuple[str, int], row: Mapping[str, Any]) -> str | None:
    shard, at = place
    told = next(one for one in run.manifest["shards"] if one["shard"] == shard)
    wanted = {name: row[name] for name in ("image_offset", "image_bytes")} | {"row": at}
    if not wanted["image_bytes"]:
        return None
    images = read_rows(Shard.restored(told, input_folder(run.manifest)), [wanted])
    max_pixels = run.manifest["recipe"]["images"]["max_pixels"]
    return thumbnail(images[0], max_pixels) if images else None
