"""Find the samples of a tar shard, also of a damaged one.

The standard library's reader takes three times as long and stops at the first damaged header; a
truncated or patched shard of a long crawl still holds thousands of good samples.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from tarfile import HeaderError, nti, nts  # type: ignore[attr-defined]  # old, but undeclared
from typing import NamedTuple

import numpy as np

_BLOCK = 512
_REGULAR = (b"0", b"\0", b"7")
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")
"""Links, devices, folders and pipes; some writers give their headers a size all the same."""
_OF_NEXT = (b"L", b"K", b"x", b"X", b"g")
"""GNU and pax headers, which are about the member after them."""


class Member(NamedTuple):
    """A file in a tar."""

    name: str
    offset: int
    """The byte at which its content begins."""
    size: int


@dataclass(slots=True)
class Sample:
    """Consecutive members that share a key; webdataset's unit."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    """By extension, lower case: what follows the base name's first dot."""


def split_name(name: str) -> tuple[str, str]:
    """Cut a member's name at its base name's first dot; one that begins with it has no key."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem if stem else ""), extension


def samples(
    members: Iterable[Member], split: Callable[[str], tuple[str, str]] = split_name
) -> Iterator[Sample]:
    """Group members into samples; an extension that repeats begins another sample.

    Args:
        members: Of a tar.
        split: Cuts a name into key and extension; a member without a key is passed over.
    """
    sample = None
    for member in members:
        key, extension = split(member.name)
        if not key:
            continue
        extension = extension.lower()
        if sample is None or sample.key != key or extension in sample.members:
            if sample is not None:
                yield sample
            sample = Sample(key)
        sample.members[extension] = member
    if sample is not None:
        yield sample


def read_members(data: memoryview, damage: list[str]) -> Iterator[Member]:
    """Yield the regular files of a tar.

    Args:
        data: The whole tar.
        damage: Takes a sentence for each damaged place; reading goes on at the next good header.
    """
    at, long_name, lost, ended = 0, "", False, False
    while at + _BLOCK <= len(data):
        header = bytes(data[at : at + _BLOCK])
        size = _size(header)
        if size is None:  # zeros are the end, or padding before another tar
            ended = header == bytes(_BLOCK)
            if not (ended or lost):
                damage.append(f"no valid tar header at byte {at}")
            lost |= not ended
            at += _BLOCK
            continue
        lost = ended = False
        start, kind = at + _BLOCK, header[156:157]
        if start + size > len(data):
            damage.append(f"the file ends at byte {len(data)}, within a member that needs more")
            return
        if kind in _REGULAR:
            yield Member(long_name or _name(header), start, size)
        if kind in _OF_NEXT:
            long_name = _extended(kind, bytes(data[start : start + size])) or long_name
        else:
            long_name = ""
        at = start + -(-size // _BLOCK) * _BLOCK
    if not ended or any(data[at:]):
        damage.append(f"the file ends at byte {len(data)}, before the zeros that end a tar")


def _size(header: bytes) -> int | None:
    """Return the size of a member's content, or None if this is no header."""
    try:
        stored = nti(header[148:156])
        size = nti(header[124:136])
    except HeaderError:
        return None
    total = int(np.frombuffer(header, np.uint8).sum())
    unsigned = total - sum(header[148:156]) + 8 * ord(" ")
    if stored != unsigned or size < 0:
        return None
    return 0 if header[156:157] in _WITHOUT_CONTENT else size


def _name(header: bytes) -> str:
    name = nts(header[:100], "utf-8", "replace")
    prefix = nts(header[345:500], "utf-8", "replace") if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _extended(kind: bytes, content: bytes) -> str:
    """Return the long name that a GNU or a pax header gives to the member after it."""
    if kind == b"L":
        return nts(content, "utf-8", "replace")
    at = 0
    while kind in b"xX":
        space = content.find(b" ", at, at + 20)
        length = content[at : max(at, space)]
        if not length.isdigit() or int(length) <= len(length):
            break
        record = content[space + 1 : at + int(length) - 1]
        if record.startswith(b"path="):
            return record[5:].decode("utf-8", "replace")
        at += int(length)
    return ""
