"""Dataflow flex templates of our jobs, made from the command line's own parser."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filters.rule import RecipeError
from pipelines.dataflow import ACCELERATOR
from recaption.files import write_json

JOBS = ("filter", "recaption")
"""The jobs that have a template; the second has an image with torch."""

SEPARATOR = ";"
"""Between the values of what may be repeated: a template's parameter has one value."""

_NOT_THERE = ("help", "dry_run", "workers")
"""Of the jobs' options, those that are about the machine that somebody types on."""

_FORMS = {
    "PATH": r"[a-z][a-z0-9]*://\S+",
    "DIR": r"[a-z][a-z0-9]*://\S+",
    "KEY=VALUE": r"[a-z0-9_.]+=[^;]*(;[a-z0-9_.]+=[^;]*)*",
    "TYPE": ACCELERATOR,
}
"""What the values look like that the parser shows so; a worker sees object stores alone."""

_IMAGE = r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+:[A-Za-z0-9_.-]+"


def write_templates(
    parsers: dict[str, argparse.ArgumentParser], image: str, to: Path
) -> list[Path]:
    """Write a folder per job: `template.json`, and `metadata.json`, which is a part of it.

    Args:
        parsers: Of the jobs.
        image: What is to be launched, and to run on the workers; recaption's has `-gpu` after it.
        to: The folder.

    Returns:
        The templates' paths.

    Raises:
        RecipeError: The image has no registry or no tag.
    """
    if not re.fullmatch(_IMAGE, image):
        raise RecipeError(
            "--image must be like europe-docker.pkg.dev/PROJECT/REPOSITORY/altmill:0.1.0, from a "
            f"registry and with a tag, got {image!r}; correct it"
        )
    paths = []
    for job in JOBS:
        about = metadata(parsers[job], job)
        write_json(to / job / "metadata.json", about)
        paths.append(to / job / "template.json")
        write_json(paths[-1], template(about, image + "-gpu" * (job == "recaption")))
    return paths


def template(about: dict[str, Any], image: str) -> dict[str, Any]:
    """Return a template: Dataflow's `ContainerSpec`."""
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": about,
        "defaultEnvironment": {"sdkContainerImage": image},
    }


def metadata(parser: argparse.ArgumentParser, job: str) -> dict[str, Any]:
    """Describe a job and its parameters, as Dataflow's `TemplateMetadata` does."""
    return {
        "name": f"altmill {job}",
        "description": str(parser.description).partition(".")[0],
        "streaming": False,
        "parameters": [_parameter(parser, action) for action in parameters(parser)],
    }


def parameters(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the options of a job that a template has."""
    every = parser._actions  # noqa: SLF001 - argparse tells of them in no other way
    return [action for action in every if action.dest not in _NOT_THERE]


def name_of(action: argparse.Action) -> str:
    """Return a parameter's name: the option's, without its dashes."""
    return action.option_strings[0].lstrip("-")


def _parameter(parser: argparse.ArgumentParser, action: argparse.Action) -> dict[str, Any]:
    name, text = name_of(action), str(action.help) % {**vars(action), "prog": parser.prog}
    found: dict[str, Any] = {
        "name": name,
        "label": name.capitalize(),
        "helpText": text,
        "isOptional": not action.required,
        "paramType": "TEXT",
    }
    if action.nargs == 0:
        return found | {"paramType": "BOOLEAN", "regexes": ["^(true|false)$"]}
    if isinstance(action.default, list):
        found["helpText"] += f", separated by {SEPARATOR!r}"
    elif action.default:
        found["defaultValue"] = str(action.default)
    form = _FORMS.get(str(action.metavar))
    return found | ({"regexes": [f"^({form})$"]} if form else {})


def command_of(parser: argparse.ArgumentParser, job: str, arguments: Sequence[str]) -> list[str]:
    """Return the command line of a job from what a template's launcher was given.

    Args:
        parser: Of the job.
        job: Its name.
        arguments: Its parameters as `--name=value`, and Beam's options.
    """
    given = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    known = parameters(parser)
    for action in known:
        given.add_argument(f"--{name_of(action)}")
    values, rest = given.parse_known_args(arguments)
    command = [job]
    for action in known:
        value = getattr(values, name_of(action).replace("-", "_"))
        command += _options(action, value) if value else []
    runner = [] if any(option.startswith("--runner") for option in rest) else ["DataflowRunner"]
    return [*command, "--", *(f"--runner={name}" for name in runner), *rest]


def _options(action: argparse.Action, value: str) -> list[str]:
    option = f"--{name_of(action)}"
    if action.nargs == 0:
        return [option] if value == "true" else []
    parts = value.split(SEPARATOR) if isinstance(action.default, list) else [value]
    return [f"{option}={part}" for part in parts]
