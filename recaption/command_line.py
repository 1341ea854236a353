"""What the command lines of all our packages share."""

import argparse
from pathlib import Path
from typing import NoReturn

from recaption.store_clients import StoreError
from recaption.stores import StorePath, to_path


class Parser(argparse.ArgumentParser):
    """A parser that says in one sentence what is wrong."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"altmill: {message}; {self.prog} --help tells more\n")


def place(text: str) -> Path:
    """Read a path, of this machine or of an object store."""
    try:
        return to_path(text)
    except StoreError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def here(text: str) -> Path:
    """Read a path of this machine."""
    path = place(text)
    if isinstance(path, StorePath):
        raise argparse.ArgumentTypeError(f"must be on this machine, got {text}; copy it")
    return path
