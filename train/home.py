"""Where a run is at work: in its folder, or, of one in an object store, in a copy on this machine.

That begins as what the store has, and what is new goes there after each checkpoint and in the end.
So a run goes on from its last checkpoint on any machine, and the copy is good for nothing else.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.store_lock import held
from recaption.copies import fetch
from recaption.files import remove
from recaption.stores import StorePath, scratch
from recaption.wordpiece import FILE as VOCABULARY
from train.checkpoints import BEST
from train.distributed import World
from train.folder import CHECKPOINTS, EVALUATION, EVENTS, INDEX, METRICS, REPORT, RUN
from train.index import identity

LEFT = (CHECKPOINTS, EVENTS, METRICS, RUN, INDEX, VOCABULARY, EVALUATION, REPORT)
"""By a run, in its folder."""
_AT_ONCE = 8
"""Files that are sent or fetched."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a run is at work."""

    here: Path
    there: StorePath | None = None
    """Its folder, if that is in a store."""
    _sent: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Size and time of change, in ns, of what the store has."""

    def send(self) -> None:
        """Send what has changed, the best checkpoint's name last; then remove what is gone.

        Raises:
            StoreError: The store refuses.
        """
        if self.there is None:
            return
        files = (path for path in self.here.rglob("[!.]*") if path.is_file())
        now = {path.relative_to(self.here): identity(path) for path in files}
        new = [name for name, state in now.items() if self._sent.get(name) != state]
        for some in ([name for name in new if (name.name == BEST) == last] for last in (0, 1)):
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(self._put, some))
        for name in self._sent.keys() - now.keys():
            (self.there / name).unlink(missing_ok=True)
        self._sent.clear()
        self._sent.update(now)

    def fetch(self) -> None:
        """Bring what the store has and this machine lacks."""
        if self.there is None:
            return
        names = (path.relative_to(self.there) for path in self.there.below())
        lacking = [
            name for name in names if name.parts[0] in LEFT and not (self.here / name).exists()
        ]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._get, lacking))

    def share(self, world: World) -> None:
        """Bring what the first process has written to the machines of all."""
        if world.first:
            self.send()
        world.wait()
        if world.first_here:
            self.fetch()
        world.wait()

    def _put(self, name: Path) -> None:
        if self.there:
            (self.there / name).put(self.here / name)

    def _get(self, name: Path) -> None:
        to = self.here / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if self.there:
            fetch(self.there / name, to)
        self._sent[name] = identity(to)


@contextmanager
def at_work(out: Path, world: World, *, overwrite: bool = False) -> Iterator[Home]:
    """Have a run's folder at hand until all processes have done their work on it.

    Args:
        out: The folder.
        world: The processes.
        overwrite: Remove another run's files first.

    Raises:
        ManifestError: Another run is at work on one in a store.
        StoreError: The store is out of reach.
    """
    with _held(out) if world.first else nullcontext():
        for name in LEFT if overwrite and world.first else ():  # nothing else that may lie there
            remove(out / name)
        world.wait()
        if not isinstance(out, StorePath):
            yield Home(out)
            return
        with _copied(out, world) as home:
            yield home


def _held(out: Path) -> AbstractContextManager[None]:
    return held(out) if isinstance(out, StorePath) else nullcontext()


@contextmanager
def _copied(out: StorePath, world: World) -> Iterator[Home]:
    folder = scratch(out)
    if world.first_here:
        remove(folder)
    home = Home(folder / out.name, out)
    try:
        home.share(world)
        yield home
        if world.first:
            home.send()
    finally:
        if world.first_here:
            remove(folder)
