"""The jobs of the command line, each from its options to what it says."""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from filters.rule import RecipeError
from pipelines.arguments import job_parsers, parser
from pipelines.audit import run_audit
from pipelines.audit_plan import AuditPlan, plan_audit
from pipelines.build_index import IndexPlan, build_index, merge_indexes
from pipelines.captions_page import write_captions_page
from pipelines.certificate import table
from pipelines.cost_arguments import predict
from pipelines.crawl import REPORT, plan_extract
from pipelines.diff import compare_runs, described, differs
from pipelines.diff_page import write_diff
from pipelines.doctor import diagnose, told, told_as_json
from pipelines.download import run_download
from pipelines.download_arguments import read_download
from pipelines.dry_run import describe
from pipelines.explain import explain
from pipelines.extract import funnel
from pipelines.hashes import MIN_QUALITY
from pipelines.index import NAME
from pipelines.inputs import InputError
from pipelines.local import WorkerError
from pipelines.options import make_absolute, names_runner
from pipelines.plan import (
    plan_decide,
    plan_filter,
    plan_materialise,
    read_recipe,
    restore_plan,
)
from pipelines.run import run_decide, run_extract, run_filter, run_materialise, run_recaption
from pipelines.sample import write_sample
from pipelines.sample_arguments import read_sample
from pipelines.takedown import SAME_IMAGE, take_down
from pipelines.template import write_templates
from pipelines.unfinished import Wish
from pipelines.write import write_pages
from recaption.choice import STATISTICS
from recaption.files import read_json
from recaption.manifest import NAME as MANIFEST
from recaption.manifest import ManifestError, read_manifest
from recaption.settings import read_settings
from recaption.store_clients import StoreError

_ERRORS = (RecipeError, InputError, ManifestError, WorkerError, StoreError, FileExistsError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a job; return the exit code.

    It is 0, or 2 where one sentence on stderr says what is wrong; of `diff` and `doctor`, 1 where
    they found something.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    at = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser().parse_args(arguments[:at])
    if names_runner(arguments[at + 1 :]):
        make_absolute(options)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("altmill").setLevel(logging.INFO)
    logging.getLogger().addFilter(lambda record: "apitools" not in str(record.msg))  # Beam's
    beam = logging.getLogger("apache_beam.runners.common")
    beam.setLevel(logging.CRITICAL)  # it logs what it raises
    try:
        code = _JOBS[options.job](options, arguments[at + 1 :])
    except (*_ERRORS, OSError, RuntimeError, KeyboardInterrupt) as error:
        return _conclude_badly(error)
    return code or 0


def _conclude_badly(error: BaseException) -> int:
    """Say in one sentence what is wrong, unless that is a defect; return the exit code."""
    cause = error
    while type(cause) is RuntimeError and cause.__context__:  # Beam's, of what has no message
        cause = cause.__context__
    if isinstance(cause, KeyboardInterrupt):
        sys.stderr.write("altmill: stopped; the same command goes on from here\n")
        return 130
    if not isinstance(cause, (*_ERRORS, OSError)):
        raise error
    what = str(cause).partition(" [while running")[0]
    known = isinstance(cause, _ERRORS)
    advice = "" if known else "; mend that, and the same command goes on from here"
    sys.stderr.write(f"altmill: {what}{advice}\n")
    return 2


def _sample(options: argparse.Namespace, _: Sequence[str]) -> None:
    try:
        kinds = write_sample(options.output, seed=options.seed, **read_sample(options))
    except ValueError as error:
        raise RecipeError(str(error)) from None
    _say(f"{sum(kinds.values()):,} pairs of {len(kinds)} kinds in {options.output}")


def _extract(options: argparse.Namespace, beam: Sequence[str]) -> None:
    plan = plan_extract(
        options.input,
        options.output,
        base_url=options.base_url,
        workers=options.workers,
        carrier="native" if names_runner(beam) else "files",
    )
    told = run_extract(plan, beam, Wish(overwrite=options.overwrite, resume=options.resume))
    report = plan.run.home / REPORT / "index.html"
    _say(told or f"{funnel(read_json(plan.run.home / MANIFEST))}\n\nreport: {report}")


def _filter(options: argparse.Namespace, beam: Sequence[str]) -> None:
    recipe = read_recipe(options.recipe, options.set)
    plan = plan_filter(
        options.input,
        options.output,
        recipe,
        workers=options.workers,
        carrier="native" if names_runner(beam) else "files",
    )
    if options.dry_run:
        _say(describe(plan))
        return
    wish = Wish(
        overwrite=options.overwrite, resume=options.resume, retry_failed=options.retry_failed
    )
    _say(run_filter(plan, beam, wish) or _account(options.output))


def _decide(options: argparse.Namespace, beam: Sequence[str]) -> None:
    source, recipe = getattr(options, "from"), read_recipe(options.recipe, options.set)
    plan = plan_decide(source, options.output or source, recipe, workers=options.workers)
    run_decide(plan, beam)
    _say(_account(plan.run.home))


def _materialise(options: argparse.Namespace, beam: Sequence[str]) -> None:
    output = getattr(options, "from")
    folder, sizes = run_materialise(plan_materialise(output, workers=options.workers), beam)
    _say(f"{sum(sizes.values()):,} pairs in {len(sizes):,} shards in {folder}")


def _takedown(options: argparse.Namespace, _: Sequence[str]) -> None:
    output = getattr(options, "from")
    done = take_down(options.uids, output, workers=options.workers)
    _say(
        f"{done.pairs:,} pairs taken down, of {done.new:,} uids that were not on the list of "
        f"{output}; {done.unknown:,} of these have no pair here"
    )
    if done.same_image:
        _say(f"{done.same_image:,} other pairs have the same images: {output / SAME_IMAGE}")


def _recaption(options: argparse.Namespace, beam: Sequence[str]) -> None:
    settings = read_settings(options.recipe, options.set)
    names = (options.captioner, options.scorer, options.device, options.accelerator)
    _say(run_recaption(getattr(options, "from"), settings, names, beam))


def _report(options: argparse.Namespace, _: Sequence[str]) -> None:
    output = getattr(options, "from")
    _say(f"report: {write_pages(read_manifest(output), restore_plan(output).run)}")
    if (output / "captions" / STATISTICS).exists():
        _say(f"captions: {write_captions_page(output)}")


def _index(options: argparse.Namespace, _: Sequence[str]) -> None:
    if options.merge:
        about = merge_indexes(options.merge, options.output)
    else:
        recipe = read_recipe(options.recipe, options.set)
        about = build_index(
            IndexPlan(
                name=options.name or Path(options.images).absolute().name,
                source=options.images,
                output=options.output,
                embedding=recipe.embedding,
                dihedral=not options.upright_only,
                skip_bad=options.skip_bad,
                max_pixels=recipe.images.max_pixels,
                workers=options.workers,
            )
        )
    sets = ", ".join(part["name"] for part in about["test_sets"])
    _say(f"{about['images']:,} test images of {sets} in {options.output}")
    if about["flat"]:
        _say(
            f"{about['flat']:,} of them are too flat for hashes (PDQ quality below {MIN_QUALITY}): "
            "only the same file will match"
        )
    skipped = [name for part in about["test_sets"] for name in part["skipped"]]
    if skipped:
        _say(f"{len(skipped):,} more could not be decoded and are not in it: {NAME} names them")


def _audit(options: argparse.Namespace, _: Sequence[str]) -> None:
    run = getattr(options, "from")
    plan = AuditPlan(
        run=run,
        against=tuple(options.against),
        images=tuple(options.images),
        different=options.different,
        sample=options.sample,
        corpus_sample=options.corpus_sample,
        seed=options.seed,
        output=options.output or run / "audit",
        workers=options.workers,
    )
    stated = run_audit(plan_audit(plan))
    remarks = [*stated["warnings"], *stated["notes"]]
    _say("\n".join([table(stated), "", *remarks, "", *stated["verdict"], ""]))
    _say(f"certificate: {plan.output / 'index.html'}")


def _download(options: argparse.Namespace, _: Sequence[str]) -> None:
    status = run_download(read_download(options))
    got = status.pop("success", 0)
    _say(_funnel(got + sum(status.values()), status, got, "downloaded"))
    _say(f"shards: {options.output}")


def _explain(options: argparse.Namespace, _: Sequence[str]) -> None:
    _say(explain(options.uid, getattr(options, "from")))


def _diff(options: argparse.Namespace, _: Sequence[str]) -> int:
    found = compare_runs(options.a, options.b, options.workers)
    _say(described(found))
    if options.output:
        _say(f"\nreport: {write_diff(found, options.output)}")
    return int(differs(found))


def _doctor(options: argparse.Namespace, _: Sequence[str]) -> int:
    diagnosis = diagnose(
        options.shards,
        caption=options.caption,
        sample=options.sample,
        seed=options.seed,
        workers=options.workers,
    )
    _say(told_as_json(diagnosis) if options.json else told(diagnosis))
    return int(diagnosis.breaks_training)


def _template(options: argparse.Namespace, _: Sequence[str]) -> None:
    for path in write_templates(job_parsers(), options.image, options.output):
        _say(f"template: {path}")


def _account(output: Path) -> str:
    """Return the funnel, and where the report is."""
    manifest = read_manifest(output)
    funnel = _funnel(manifest["rows_in"], manifest["dropped"], manifest["kept"], "kept")
    return f"{funnel}\nreport: {output / 'report' / 'index.html'}"


def _funnel(rows: int, dropped: Mapping[str, int], kept: int, what: str) -> str:
    lines = [f"{rows:>12,}          rows in"]
    for reason, count in dropped.items():
        lines.append(f"{-count:>12,}  {count / rows:6.1%}  {reason}")
    share = kept / rows if rows else 0.0
    return "\n".join([*lines, f"{kept:>12,}  {share:6.1%}  {what}", ""])


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


_JOBS: dict[str, Callable[[argparse.Namespace, Sequence[str]], int | None]] = {
    "extract": _extract,
    "filter": _filter,
    "decide": _decide,
    "recaption": _recaption,
    "report": _report,
    "materialise": _materialise,
    "takedown": _takedown,
    "index": _index,
    "audit": _audit,
    "download": _download,
    "explain": _explain,
    "diff": _diff,
    "doctor": _doctor,
    "plan": lambda options, _: _say(predict(options)),
    "sample": _sample,
    "template": _template,
}
