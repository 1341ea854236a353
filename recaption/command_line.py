"""What the command lines of all our packages share."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that says in one sentence what is wrong."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"altmill: {message}; {self.prog} --help tells more\n")
