"""Audit a run: how many copies of test images its rules would find, and how many other images.

Copies of a sample of the test images are planted among a sample of the corpus's own images; all
of them are hashed, looked up and judged by the code that the run was made with.

OUT/audit/
  index.html      the certificate, for a person
  audit.json      the same, with all that it rests on
  images.parquet  every image that was judged: its hashes, its nearest test image, the verdicts
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from pipelines import certificate, evidence
from pipelines.audit_page import write_page
from pipelines.audit_plan import Audit
from pipelines.certificate import Findings
from pipelines.local import WorkerError
from pipelines.manifest import code_version, environment
from pipelines.planted import detectors, hash_copies, hash_corpus, hash_different, look_up, widened
from pipelines.schema import RADII
from pipelines.storage import parquet_writer
from recaption.files import write_json
from recaption.workers import start_worker

Each = Callable[[Callable[[Any], Any], Sequence[Any], str], Iterable[Any]]

FORMAT = 1
_ROWS_AT_ONCE = 512


def run_audit(audit: Audit) -> dict[str, Any]:
    """Make the copies, look for them, write the certificate; return what its audit.json says."""
    plan, recipe = audit.plan, audit.recipe
    copied = list(audit.read(audit.entries))
    with _processes(plan.workers) as each:
        hashed = [
            *each(partial(hash_copies, recipe, plan.seed), copied, "copies"),
            *each(partial(hash_corpus, recipe), audit.corpus, "corpus"),
            *each(partial(hash_different, recipe), audit.different, "different"),
        ]
        rows = pa.Table.from_batches(hashed).combine_chunks()
        whole = rows.filter(pc.is_valid(rows["phash"]))
        planted = _shuffled(whole, plan.seed)
        judged = list(each(partial(look_up, recipe), planted, "look-ups"))
    told = pa.Table.from_batches([_joined(*pair) for pair in zip(planted, judged, strict=True)])
    told = told.sort_by([(name, "ascending") for name in ("origin", "name", "variant")])
    found = certificate.findings(recipe, told)
    stated = _state(audit, told, found, len(rows) - len(whole))
    _write(audit, stated, told, found, dict(copied))
    return stated


@contextmanager
def _processes(workers: int) -> Iterator[Each]:
    """Yield what calls a function with each of some items, in this process if one is enough."""
    if workers == 1:
        yield partial(_each, map)
        return
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), start_worker) as pool:
            yield partial(_each, pool.map)
    except BrokenProcessPool:
        raise WorkerError(
            "audit must end, but a process of it was killed; look for an out-of-memory kill, and "
            "use fewer --workers"
        ) from None


def _each(
    call: Callable[..., Iterable[Any]], work: Callable[[Any], Any], items: Sequence[Any], of: str
) -> Iterable[Any]:
    return tqdm(call(work, items), of, len(items), unit=" parts", disable=not items or None)


def _shuffled(rows: pa.Table, seed: int) -> list[pa.RecordBatch]:
    """Mix the copies with the other images, in batches as of a shard."""
    order = np.random.default_rng([seed, 2]).permutation(len(rows))
    mixed = rows.take(pa.array(order)).combine_chunks()
    return mixed.to_batches(_ROWS_AT_ONCE)


def _joined(rows: pa.RecordBatch, judged: pa.RecordBatch) -> pa.RecordBatch:
    columns = {name: part[name] for part in (rows, judged) for name in part.schema.names}
    return pa.record_batch(columns)


def _state(audit: Audit, rows: pa.Table, found: Findings, damaged: int) -> dict[str, Any]:
    """Return the certificate, as audit.json has it."""
    recipe, manifest, about = audit.recipe, audit.manifest, [i.about for i in audit.indexes]
    others = {
        origin: rows.filter(pc.equal(rows["origin"], origin))
        for origin in (("different", "corpus") if audit.different else ("corpus",))
    }
    telling = sum(one["images"] - one["flat"] for one in about)
    names = ("images", "flat", "dihedral", "digest", "test_sets")
    stated = {
        "format": FORMAT,
        "altmill": code_version(),
        "environment": environment(),
        "run": {"folder": str(audit.plan.run), "altmill": manifest["altmill"]}
        | {name: manifest[name] for name in ("input", "recipe_digest", "rows_in", "kept")},
        "recipe": recipe.as_dict(),
        "rules": {rule.name: rule.threshold for rule in detectors(recipe)},
        "hashes": recipe.images.hashes,
        "widest": {
            r.name: getattr(widened(recipe).test_sets, RADII[r.column])
            for r in detectors(recipe)
            if r.column in RADII
        },
        "seed": audit.plan.seed,
        "indexes": [
            {"path": str(i.path)} | {name: i.about[name] for name in names} for i in audit.indexes
        ],
        "test_images": {
            "of": sum(one["images"] for one in about),
            "too_flat": sum(one["flat"] for one in about),
            "sampled": len(audit.entries),
            "sampled_too_flat": int(found.flat[:, 0].sum()),
        },
        "corpus_shards": [part.shard.name for part in audit.corpus],
        "damaged": damaged,
        "agreement": evidence.agreement(audit, rows),
        "summary": certificate.summary(found),
        "recall": certificate.recall(found),
        "false_matches": {
            origin: certificate.false_matches(recipe, images, telling)
            for origin, images in others.items()
        },
        "other_thresholds": {
            rule.name: certificate.sweep(recipe, rule, found, others) for rule in detectors(recipe)
        },
        "missed": evidence.missed(found),
        "matched": evidence.matched(recipe, rows),
    }
    stated["verdict"] = certificate.verdict(stated)
    stated["warnings"] = list(evidence.warnings(audit, stated))
    stated["notes"] = list(evidence.notes(audit, stated))
    return stated


def _write(
    audit: Audit, stated: dict[str, Any], rows: pa.Table, found: Findings, copied: dict[str, bytes]
) -> None:
    folder = audit.plan.output
    with parquet_writer(folder / "images.parquet", rows.schema) as sink:
        sink.write_table(rows)
    write_json(folder / "audit.json", stated)
    write_page(folder, stated, evidence.pictures(audit, stated, found, copied))
