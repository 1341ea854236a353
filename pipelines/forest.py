"""Groups of things that are linked to one another, directly or not: in memory, and in a file."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Places = NDArray[np.int64]
Links = tuple[Places, Places]

_LINKS_AT_ONCE = 1 << 18
_LABELS_AT_ONCE = 1 << 20


class Forest:
    """Which of some things are linked to one another."""

    def __init__(self, size: int) -> None:
        self.labels: Places = np.arange(size)
        """The smallest thing of each one's group, as of the last `settle`."""
        self._waiting: list[Links] = []
        self._num_waiting = 0

    def link(self, left: Places, right: Places) -> None:
        """Link things, pair by pair."""
        self._waiting.append((left, right))
        self._num_waiting += len(left)
        if self._num_waiting > max(_LINKS_AT_ONCE, len(self.labels) // 2):
            self.settle()

    def settle(self) -> None:
        """Work in what has been linked so far."""
        if self._num_waiting:
            left, right = map(np.concatenate, zip(*self._waiting, strict=True))
            join(self.labels, left, right)
            self.labels = self.labels[self.labels]
        self._waiting, self._num_waiting = [], 0


def join(labels: Places, left: Places, right: Places) -> None:
    """Join the groups of linked things, in place.

    Args:
        labels: For each thing another one of its group, smaller but for the smallest, which has
            itself.  It may be a file that is mapped into memory: little of it is looked at.
        left: Things.
        right: What they are linked to.
    """
    left, right = roots(labels, left), roots(labels, right)
    apart = left != right
    groups, ends = np.unique(np.concatenate([left[apart], right[apart]]), return_inverse=True)
    if not len(groups):
        return
    half = len(ends) // 2
    links = coo_array((np.ones(half, bool), (ends[:half], ends[half:])), (len(groups),) * 2)
    count, of = connected_components(links, directed=False)
    smallest = np.full(count, len(groups))
    np.minimum.at(smallest, of, np.arange(len(groups)))
    labels[groups] = groups[smallest[of]]


def roots(labels: Places, things: Places) -> Places:
    """Return the smallest thing of each one's group; what leads to it gets shorter."""
    found = np.asarray(labels[things])
    while True:
        further = np.asarray(labels[found])
        if (further == found).all():
            break
        found = further
    labels[things] = found
    return found


def join_all(labels: Places, links: Iterable[Links]) -> None:
    """Join the groups of all linked things; then give each one the smallest of its group.

    It ends after one pass, however the links lie: each part of them joins what those before left.
    """
    for left, right in links:
        for at in range(0, len(left), _LABELS_AT_ONCE):
            part = slice(at, at + _LABELS_AT_ONCE)
            join(labels, left[part], right[part])
    for at in range(0, len(labels), _LABELS_AT_ONCE):
        some = labels[at : at + _LABELS_AT_ONCE]
        some[:] = roots(labels, np.array(some))
