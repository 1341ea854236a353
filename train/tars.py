"""List the samples of a tar: img2dataset's, webdataset's, ours."""

from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.rows import mapped, read_json
from pipelines.schema import ALIASES, IMAGE_EXTENSIONS
from pipelines.tars import Member, Sample, read_members, samples
from train.mixing import Captions
from train.places import MAX_CHARS, Places, Row, clean
from train.sources import Shard

_OF_CAPTIONS = ("txt", "caption", "text")


def list_tar(shard: Shard, captions: Captions) -> Places:
    """List a tar's samples, also of a damaged one."""
    places = Places()
    with mapped(shard.path) as data:
        found = samples(read_members(data, places.damage))
        places.add(0, 0, _rows(data, found, captions, places), captions)
    return places


def _rows(
    data: memoryview, found: Iterable[Sample], captions: Captions, places: Places
) -> Iterator[Row]:
    for sample in found:
        members = sample.members.items()
        image = next((member for name, member in members if name in IMAGE_EXTENSIONS), None)
        if image is None or not image.size:
            places.left_out["image_missing"] += 1
            continue
        texts = _Texts(data, sample)
        yield sample.key, image.offset, image.size, [texts.of(name) for name in captions.names]


class _Texts:
    """The texts of a sample; its json is parsed only where a text is looked for in it."""

    def __init__(self, data: memoryview, sample: Sample) -> None:
        self._data, self._sample = data, sample
        self._parsed: dict[str, Any] | None = None

    def of(self, name: str) -> list[str]:
        """Return those of a kind; see `Captions.weights`."""
        if name == "chosen" or (name == "raw" and "org_caption" not in self._fields()):
            return self._caption()
        if name in ("raw", "synthetic"):
            return clean(self._fields().get("org_caption" if name == "raw" else "re_caption"))
        member = self._sample.members.get(name)
        return clean(self._read(member) if member else self._fields().get(name))

    def _caption(self) -> list[str]:
        for name in _OF_CAPTIONS:
            if name in self._sample.members:
                return clean(self._read(self._sample.members[name]))
        fields = self._fields()
        return clean(next((fields[name] for name in ALIASES["caption"] if name in fields), None))

    def _fields(self) -> dict[str, Any]:
        if self._parsed is None:
            self._parsed = read_json(self._data, self._sample)
        return self._parsed

    def _read(self, member: Member) -> bytes:
        size = min(member.size, 4 * MAX_CHARS)
        return bytes(self._data[member.offset : member.offset + size])
