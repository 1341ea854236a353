"""Run the README's commands, in an environment that is taken to be what `make` would have built."""

import os
import subprocess
import sys
from pathlib import Path


def run(command: str, folder: Path) -> str:
    """Run a command in a copy of the project, to its end; return what it prints."""
    done = start(command, folder)
    printed, complaints = done.communicate()
    assert done.returncode == 0, f"{command}\n{printed}\n{complaints}"
    return printed


def start(command: str, folder: Path) -> "subprocess.Popen[str]":
    """Start a command in a copy of the project."""
    environment = Path(sys.prefix)
    built = f"VENV={environment} -o {environment}/.core -o {environment}/.dev"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        command.replace("make ", f"make {built} ", 1),
        shell=True,
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
