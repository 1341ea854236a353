"""Dataflow: check a job before anything is sent there, and tell of it without sending it."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from filters.rule import RecipeError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

ACCELERATOR = "type:[a-z0-9-]+;count:[1-9][0-9]*(;install-nvidia-driver(:[a-z0-9.]+)?)?"
"""What an accelerator is called.  Source: Dataflow's guide to GPUs."""

ONE_PROCESS = (
    "--experiments=no_use_multiple_sdk_containers",
    "--number_of_worker_harness_threads=1",
)
"""Options that leave a worker's GPU to one process, and to one shard at a time.  Without them Beam
opens the models once per virtual CPU, and once more per thread."""

_WINDOWS = {
    "num_workers": (1, 4_000),
    "max_num_workers": (1, 4_000),
    "disk_size_gb": (30, 65_536),
}
"""Inclusive.  Sources: Dataflow's page on quotas, for batch jobs with its shuffle service; its
reference of pipeline options (less disk than 30 GB does not hold boot image and logs); Compute
Engine's largest persistent disk."""


_TOLD = (
    *("job_name", "project", "region", "sdk_container_image", "machine_type", "num_workers"),
    *("max_num_workers", "disk_size_gb", "number_of_worker_harness_threads", "experiments"),
)


def read_options(options: Sequence[str]) -> "PipelineOptions":
    """Read Beam's options, and check those of Dataflow.

    Raises:
        RecipeError: One of them cannot be right.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    flags = ["--dry_run=True" if option == "--dry_run" else option for option in options]
    # Beam would pickle __main__ for Dataflow; nothing that we send is in it.
    read = PipelineOptions(flags, save_main_session=False)
    values = read.get_all_options()
    of_dataflow = "DataflowRunner" in (values["runner"] or "")
    if _is_true(values["dry_run"]) and not of_dataflow:
        raise RecipeError(
            "--dry_run must go with --runner=DataflowRunner, as no other runner heeds it, got "
            f"{values['runner'] or 'no runner'}; say --dry-run before --, which prints the plan"
        )
    if of_dataflow:
        _check(values)
    return read


def _check(values: dict[str, Any]) -> None:
    try:
        import apache_beam.runners.dataflow.internal.apiclient  # noqa: F401 - to see if it is there
    except ImportError as error:
        raise RecipeError(
            "--runner=DataflowRunner must have Google's client libraries, got none: "
            f"{error}; install the extra: pip install 'altmill[dataflow]'"
        ) from None
    if not values["sdk_container_image"]:
        raise RecipeError(
            "--sdk_container_image must name an image with altmill in it, as Dataflow's workers "
            "have nothing else of ours, got none; docker/README.md tells how to build it"
        )
    for name, (least, most) in _WINDOWS.items():
        value = values[name]
        if value is not None and not least <= value <= most:
            raise RecipeError(
                f"--{name} must be from {least:,} to {most:,}, got {value:,}; correct it"
            )
    few, many = values["num_workers"], values["max_num_workers"]
    if few and many and few > many:
        raise RecipeError(
            f"--num_workers must be --max_num_workers at most, {many:,}, got {few:,}; correct it"
        )


def is_dry(options: Sequence[str]) -> bool:
    """Return whether a job is only to be described.

    Raises:
        RecipeError: One of Beam's options cannot be right.
    """
    said = any(option.startswith("--dry_run") for option in options)
    return said and _is_true(read_options(options).get_all_options()["dry_run"])


def is_template(options: Sequence[str]) -> bool:
    """Return whether Beam is to leave a template that Dataflow runs later."""
    return any(option.startswith("--template_location") for option in options)


def _is_true(value: object) -> bool:
    return str(value).lower() in ("true", "1")


def described(job: Any) -> str:
    """Tell of a job that was made up and not sent.

    Args:
        job: Of `apache_beam.runners.dataflow`; it is in the result of a dry run.
    """
    graph, values = job.proto_pipeline, job.options.get_all_options()
    steps = [graph.components.transforms[name] for name in steps_of(graph)]
    told = [f"--{name}={values[name]}" for name in _TOLD if values[name]]
    lines = ["nothing was sent; Dataflow would get", *(f"  {option}" for option in told), "steps"]
    for step in steps:
        hints = ", ".join(f"{name} {value}" for name, value in hints_of(graph, step).items())
        lines.append(f"  {step.unique_name:<16} {hints}".rstrip())
    return "\n".join(lines)


def steps_of(graph: Any) -> list[str]:
    """Return the ids of a pipeline's outermost steps, in order."""
    transforms = graph.components.transforms
    roots = list(graph.root_transform_ids)
    while len(roots) == 1:  # Beam's wrapping
        roots = list(transforms[roots[0]].subtransforms)
    return roots


def hints_of(graph: Any, step: Any) -> dict[str, str]:
    """Return the resource hints of a step and all within it, by their short names."""
    environment = graph.components.environments.get(step.environment_id)
    found = {
        re.sub("^beam:resources:|:v1$", "", urn): value.decode()
        for urn, value in (environment.resource_hints.items() if environment else ())
    }
    for name in step.subtransforms:
        found |= hints_of(graph, graph.components.transforms[name])
    return found
