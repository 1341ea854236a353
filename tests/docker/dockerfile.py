"""Read a Dockerfile, and carry out its install steps where there is no Docker.

A stage becomes a folder with a fresh virtual environment; COPY and RUN are done in it.  What only
Docker has, the files of other images and users, is left out, and told.
"""

import os
import re
import shlex
import shutil
import subprocess
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
OF_DOCKER = ("useradd",)
"""Commands that are for an image alone."""


@dataclass(frozen=True)
class Stage:
    """What lies between two FROMs."""

    name: str
    base: str
    steps: list[tuple[str, str]]
    """Instructions and what follows them."""

    def every(self, instruction: str) -> list[str]:
        """Return what follows an instruction, each time that it is there."""
        return [value for name, value in self.steps if name == instruction]


def read_stages(path: Path = DOCKERFILE) -> dict[str, Stage]:
    """Read the stages of a Dockerfile, by name; each has to have one."""
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    stages: dict[str, Stage] = {}
    for line in text.splitlines():
        instruction, _, value = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = value.partition(" AS ")
            stages[name] = Stage(name, base, [])
        elif instruction and instruction != "#":
            next(reversed(stages.values())).steps.append((instruction, value))
    return stages


def allowed(path: Path) -> list[str]:
    """Return what a .dockerignore lets into the context, which is nothing by default."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    return [line[1:] for line in lines if line.startswith("!")]


@dataclass
class Builder:
    """Carries out stages below a folder."""

    home: Path
    arguments: dict[str, str] = field(default_factory=dict)
    """What `docker build` would be told by --build-arg."""
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stages = read_stages()
        self._roots: dict[str, Path] = {}
        self._folders: dict[Path, Path] = {}
        self._context = allowed(DOCKERFILE.with_name("Dockerfile.dockerignore"))

    def build(self, target: str) -> Path:
        """Carry out a stage, and what it needs; return its folder, with `venv` in it."""
        if target not in self._roots:
            stage = self._stages[target]
            if stage.base in self._stages and self._stages[stage.base].steps:
                root = self.build(stage.base)
            else:
                root = self.home / target
                venv.create(root / "venv", with_pip=True)
            self._roots[target] = root
            self._carry_out(stage, root)
        return self._roots[target]

    def environment(self, root: Path) -> dict[str, str]:
        """Return the variables of a stage's programs."""
        path = f"{root / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        kept = {name: os.environ[name] for name in os.environ if name.startswith("PIP_")}
        own = {
            "PATH": path,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_COMPILE": "1",
            "PIP_QUIET": "1",
        }
        return {"HOME": os.environ["HOME"]} | kept | own | self.arguments

    def _carry_out(self, stage: Stage, root: Path) -> None:
        folder = self._folders.get(root, root)  # that of the stage below
        for instruction, value in stage.steps:
            if instruction == "WORKDIR":
                folder = root / value.lstrip("/")
                folder.mkdir(parents=True, exist_ok=True)
                self._folders[root] = folder
            elif instruction == "COPY":
                self._copy(shlex.split(value), root, folder)
            elif instruction == "RUN":
                self._run(value, root, folder)
            elif instruction in ("ARG", "ENV"):
                self._assign(value)

    def _assign(self, value: str) -> None:
        for name, _, given in (part.partition("=") for part in shlex.split(value)):
            known = re.sub(r"\$\{(\w+)\}", lambda found: self.arguments[found[1]], given)
            self.arguments.setdefault(name, known)

    def _copy(self, words: list[str], root: Path, folder: Path) -> None:
        source = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
        *names, target = words
        if source in self._stages and not self._stages[source].steps:
            self.left_out.append(f"COPY of {names[0]} from {self._stages[source].base}")
            return
        to = root / target.lstrip("/") if target.startswith("/") else folder / target
        for name in names:
            path = self.build(source) / name.lstrip("/") if source else self._in_context(name)
            whole = to / path.name if target.endswith("/") else to
            whole.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, whole, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, whole)

    def _in_context(self, name: str) -> Path:
        assert name in self._context, f"COPY of {name}, which .dockerignore keeps out"
        return ROOT / name

    def _run(self, value: str, root: Path, folder: Path) -> None:
        commands = list(self._commands(value))
        done = ["sh", "-ec", "\n".join(commands)]
        subprocess.run(done, cwd=folder, env=self.environment(root), check=True)

    def _commands(self, value: str) -> Iterator[str]:
        for command in value.split(" && "):
            if command.strip().startswith(OF_DOCKER):
                self.left_out.append(f"RUN {command.strip()}")
            else:
                yield command.replace("--no-cache-dir ", "")  # a cache is the machine's to have
