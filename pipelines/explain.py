"""Explain: the whole story of one pair."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from filters.decision import all_rules, verdicts_of
from filters.parsing import from_dict
from filters.text import normalise, tokenise
from pipelines import lookup, ngrams
from pipelines.decide import decisions_path
from pipelines.measure import columns_path
from pipelines.schema import OF_HASHES
from recaption.captions import captions_path, read_provenance
from recaption.manifest import NAME, ManifestError, measured_folder, read_manifest
from recaption.stores import readable

_INPUTS = ("uid", "key", "url", "caption")
_RAREST = 5


def explain(uid: str, output: Path) -> str:
    """Tell what was measured of a pair, and what every rule said.

    Raises:
        ManifestError: There is no complete run, or no such pair in it.
    """
    manifest = read_manifest(output)
    stories = [
        "\n".join([_story(row, f"row {at} of shard {shard}", output, manifest), *said])
        for shard, at, row in _find(uid, output, manifest)
        for said in [_captions(output, shard, at)]
    ]
    if not stories:
        raise ManifestError(
            f"uid {uid} must be one of the {manifest['rows_in']:,} rows of {output}, got none with "
            "it; copy one from decisions/ or the report"
        )
    return "\n\n".join(stories)


def _find(
    uid: str, output: Path, manifest: dict[str, Any]
) -> Iterator[tuple[str, int, pa.RecordBatch]]:
    """Yield the shard, the place in it and what is known of each row of a uid."""
    measured = measured_folder(output, manifest)
    for shard in manifest["shards"]:
        path = columns_path(measured, shard["shard"])
        uids = pq.read_table(readable(path), columns=["uid"])["uid"]
        for at in np.flatnonzero(pc.equal(uids, uid).to_numpy()).tolist():
            columns = pq.read_table(path).slice(at, 1)
            decisions = pq.read_table(decisions_path(output, shard["shard"])).slice(at, 1)
            for name in ("reason", "value", "threshold", "duplicate_of"):
                columns = columns.append_column(name, decisions[name])
            yield shard["shard"], at, columns.to_batches()[0]


def _story(row: pa.RecordBatch, place: str, output: Path, manifest: dict[str, Any]) -> str:
    values = row.to_pylist()[0]
    verdict = "kept" if values["reason"] is None else f"dropped: {values['reason']}"
    lines = [f"{values['uid']}  {verdict}", f"  {place}, key {values['key']}"]
    lines += ["", "input", *_pairs({name: values[name] for name in _INPUTS[2:]})]
    hidden = (*_INPUTS, "reason", "value", "threshold", "duplicate_of")
    measured = {k: v for k, v in values.items() if k not in hidden}
    measured = {k: v for k, v in measured.items() if v is not None or k not in OF_HASHES}
    lines += ["", "measured", *_pairs(measured | {"error": values["error"] or "none"})]
    lines += ["", f"rules of recipe {manifest['recipe']['name']}, in the order of judging"]
    rules = from_dict(manifest["recipe"], NAME).rules
    for rule, said in zip(all_rules(rules), verdicts_of(row, rules)[0], strict=True):
        shown = f"{rule.threshold:<36} {_cut(said.value):<24} {said.verdict}"
        lines.append(f"  {rule.name:<16} {shown}")
    tables = manifest["tables"]
    lines += ["", "judged against"]
    lines += _pairs(
        {
            "tables/ngrams": ", ".join(f"{k} {v:,}" for k, v in tables["ngrams"].items()),
            "tables/texts": ", ".join(f"{k} {v:,}" for k, v in tables["texts"].items()),
            "tables/images": ", ".join(f"{k} {v:,}" for k, v in tables["images"].items()),
        }
    )
    rarest = _rarest(values["caption"], measured_folder(output, manifest), manifest)
    lines += _pairs({"rarest n-grams": ", ".join(rarest) or None})
    return "\n".join(lines)


def _captions(output: Path, shard: str, at: int) -> list[str]:
    """Tell what captions a row was given, by whom, and which of them stays."""
    path = captions_path(output, shard)
    if not path.exists():
        return []
    row = pq.read_table(path).slice(at, 1).to_pylist()[0]
    makers = read_provenance(output)
    if not row["asked"]:
        return ["", "captions", "  none was asked for"]
    lines = ["", f"captions, chosen by {makers.get('choice', {}).get('rule', 'no rule yet')}"]
    lines.append(f"  {'raw':<16} {_scored(row['raw_itc'], row['raw_itm'])}  {_cut(row['raw'])}")
    for one in row["candidates"] or ():
        said = one["failure"] and f"failed: {one['failure']}"
        name = f"synthetic {one['draw']}"
        lines.append(f"  {name:<16} {_scored(one['itc'], one['itm'])}  {said or _cut(one['text'])}")
    chosen = f"{row['origin']}: {_cut(row['chosen'])}" if row["origin"] else "none, so it goes"
    known = makers.get("captioners", {})
    written = {one["captioner"] for one in row["candidates"] or ()}
    by = ", ".join(known.get(maker, {}).get("captioner", maker) for maker in sorted(written))
    bounds = {name: makers.get("choice", {}).get(name) for name in ("itm", "raw_itc")}
    return lines + _pairs(
        {"chosen": chosen, "captioner": by or None}
        | {"scorer": makers.get("scorer", {}).get("scorer")}
        | {f"bound on {name}": bound for name, bound in bounds.items()}
    )


def _scored(itc: float | None, itm: float | None) -> str:
    told = ("itc", itc), ("itm", itm)
    return " ".join(f"{name} {'-' if value is None else f'{value:.2f}':<5}" for name, value in told)


def _rarest(caption: str | None, measured: Path, manifest: dict[str, Any]) -> list[str]:
    """Return a caption's rarest n-grams with their ranks."""
    tokens = tokenise(normalise(pa.array([caption], pa.string())))
    words = ngrams.vocabulary(tokens, manifest["recipe"]["tables"]["hash_seed"])
    if not len(words.words):
        return []
    counted = ngrams.count(words)
    absent = manifest["recipe"]["tables"]["max_ngrams"] + 1
    ranks = lookup.ngram_ranks(measured, counted["hash"].to_numpy(), absent)
    order = np.argsort(-ranks, kind="stable")[:_RAREST]
    return [
        f"{_cut(counted['name'][at].as_py())!r} "
        + (f"rank {ranks[at]:,}" if ranks[at] < absent else "not in the table")
        for at in order.tolist()
    ]


def _pairs(values: dict[str, Any]) -> list[str]:
    return [f"  {name:<16} {_cut(value)}" for name, value in values.items()]


def _cut(value: Any) -> str:
    if value is None:
        return "unknown"
    text = f"{value:,}" if type(value) is int else str(value)
    text = f"{value:.4g}" if type(value) is float else text
    text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return text if len(text) <= 200 else text[:200] + "..."
