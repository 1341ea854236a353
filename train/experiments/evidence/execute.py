"""Run the commands of a plan, two at a time or more, and go on where a killed run stopped."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path

from filters.rule import RecipeError
from recaption.files import read_json, write_json
from recaption.workers import end_with_parent
from train.experiments.evidence.grid import slug
from train.experiments.evidence.plan import Command

_IN_PROCESS = ("recaption", "train")
"""Packages whose `main` is called in a worker, which has loaded torch: it takes seconds each time.

It is what `python -m` calls.  `pipelines` is started, as this package must not import Beam.
"""

Say = Callable[[str], None]


def typed(command: Command) -> str:
    """Return a command as a person would type it."""
    python = () if command.words[0] == "cp" else ("python", "-m")
    return shlex.join([*python, *command.words])


def execute(commands: Sequence[Command], out: Path, workers: int, say: Say) -> None:
    """Run those commands that have not ended well before.

    Args:
        commands: Each after those that it needs.
        out: Where it is written what has ended, in `done/`, and what each command said, in `logs/`.
        workers: Commands at once, each with one thread.
        say: Takes each command as it begins.

    Raises:
        RecipeError: A command failed; those that were under way have ended.
    """
    done = {command.name for command in commands if _has_ended(command, out)}
    waiting = [command for command in commands if command.name not in done]
    if done:
        say(f"{len(done):,} of {len(commands):,} commands have ended before")
    running: dict[Future[float], Command] = {}
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers, before they load torch
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        while waiting or running:
            for command in _ready(waiting, done)[: workers - len(running)]:
                waiting.remove(command)
                number = len(commands) - len(waiting)
                say(f"[{number:,}/{len(commands):,}] {typed(command)}")
                running[pool.submit(run_command, command, _log(command, out))] = command
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                command = running.pop(future)
                _note_end(command, out, future.result())
                done.add(command.name)


def _ready(waiting: Sequence[Command], done: set[str]) -> list[Command]:
    return [command for command in waiting if done.issuperset(command.needs)]


def run_command(command: Command, log: Path) -> float:
    """Run a command in this process or in one of its own, and return the seconds it took.

    Raises:
        RecipeError: It ended badly; the log's last line says why.
    """
    begun = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {typed(command)}\n")
        file.flush()
        if command.words[0] in _IN_PROCESS:
            with redirect_stdout(file), redirect_stderr(file):
                code = _main(command.words[0])(command.words[1:])
        else:
            Path(command.words[-1]).parent.mkdir(parents=True, exist_ok=True)
            module = () if command.words[0] == "cp" else (sys.executable, "-m")
            words = [*module, *command.words]
            code = subprocess.run(words, stdout=file, stderr=file, check=False).returncode
    if code:
        said = log.read_text(encoding="utf-8").strip().splitlines()[-1]
        raise RecipeError(
            f"{typed(command)} must end well, got exit code {code}: {said}; mend that, and the "
            f"same command goes on from here; {log} has all it said"
        )
    return time.monotonic() - begun


def _main(package: str) -> Callable[[Sequence[str]], int]:
    if package == "recaption":
        from recaption.__main__ import main as recaption_main

        return recaption_main
    from train.__main__ import main as train_main

    return train_main


def _log(command: Command, out: Path) -> Path:
    return out / "logs" / f"{_file(command, out)}.txt"


def _done(command: Command, out: Path) -> Path:
    return out / "done" / f"{_file(command, out)}.json"


def _file(command: Command, out: Path) -> str:
    return slug(command.name.replace(f"{out}/", ""))


def _has_ended(command: Command, out: Path) -> bool:
    path = _done(command, out)
    return path.exists() and read_json(path)["words"] == list(command.words)


def _note_end(command: Command, out: Path, seconds: float) -> None:
    told = {"words": list(command.words), "seconds": round(seconds, 3)}
    write_json(_done(command, out), told)
