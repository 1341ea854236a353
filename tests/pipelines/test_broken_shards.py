"""Broken tar shards end no run and lose no row: each row is kept, or counted with its reason."""

import gzip
import io
import struct
import tarfile
import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.commands import main
from tests.outputs import manifest_of, rows_of
from tests.shards import picture, write_parquet, write_tar

CAPTION = b"a photo of a red shoe"
BLOCK = 512
Rows = list[tuple[str, str | None]]


def run(source: Path, output: Path, *changes: str) -> None:
    """Run by a recipe without rules, so that every image is decoded."""
    recipe = output.with_name("bare.toml")
    recipe.write_text('name = "bare"\n')
    paths = ["--input", str(source), "--output", str(output), "--recipe", str(recipe)]
    changed = [part for change in changes for part in ("--set", change)]
    assert main(["filter", *paths, "--workers", "1", *changed]) == 0


def reasons(output: Path, shard: str) -> Rows:
    decisions = rows_of(output, "decisions")
    return [(row["key"], row["reason"]) for row in decisions if row["shard"] == shard]


def sample(key: str, side: int = 300) -> list[tuple[str, bytes]]:
    return [(f"{key}.png", picture(side, side)), (f"{key}.txt", CAPTION)]


def member_at(path: Path, name: str) -> int:
    """Return the byte at which a member's header begins."""
    with tarfile.open(path) as tar:
        return tar.getmember(name).offset


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG whose header claims a size, and whose pixels are few."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in body
    )


def zero_bytes(path: Path) -> Rows:
    path.with_suffix(".tar").touch()
    return []


def no_members(path: Path) -> Rows:
    write_tar(path.with_suffix(".tar"), [])
    write_parquet(path.with_suffix(".parquet"), {"key": pa.array([], pa.string())})
    return []


def no_tar_at_all(path: Path) -> Rows:
    path.with_suffix(".tar").write_bytes(b"<!DOCTYPE html>" * 99)
    return []


def compressed(path: Path) -> Rows:
    write_tar(path.with_suffix(".tar"), sample("1"))
    tar = path.with_suffix(".tar").read_bytes()
    path.with_suffix(".tar").write_bytes(gzip.compress(tar))
    write_parquet(path.with_suffix(".parquet"), {"key": ["1"], "caption": ["a b c"]})
    return [("1", "intact.image_missing")]


def cut_off(path: Path) -> Rows:
    tar = path.with_suffix(".tar")
    write_tar(tar, [member for key in "123" for member in sample(key)])
    tar.write_bytes(tar.read_bytes()[: member_at(tar, "2.png") + BLOCK + 99])
    write_parquet(path.with_suffix(".parquet"), {"key": list("123"), "caption": ["a b c"] * 3})
    return [("1", None), ("2", "intact.image_missing"), ("3", "intact.image_missing")]


def header_overwritten(path: Path) -> Rows:
    tar = path.with_suffix(".tar")
    write_tar(tar, [member for key in "123" for member in sample(key)])
    whole, at = tar.read_bytes(), member_at(tar, "2.png")
    tar.write_bytes(whole[:at] + b"?" * BLOCK + whole[at + BLOCK :])
    return [("1", None), ("2", "intact.image_missing"), ("3", None)]


def members_missing(path: Path) -> Rows:
    lone = [("1.png", picture(300, 300)), ("2.txt", CAPTION), ("3.json", b'{"caption": "a b"}')]
    write_tar(
        path.with_suffix(".tar"), [*lone, ("4.cls", b"7"), ("5.png", b""), ("5.txt", CAPTION)]
    )
    captionless, imageless = "intact.caption_missing", "intact.image_missing"
    return [
        ("1", captionless),
        ("2", imageless),
        ("3", imageless),
        ("4", captionless),
        ("5", imageless),
    ]


def parquet_and_tar_unequal(path: Path) -> Rows:
    write_tar(path.with_suffix(".tar"), [member for key in "245" for member in sample(key)])
    write_parquet(path.with_suffix(".parquet"), {"key": list("4321"), "caption": ["a b c"] * 4})
    missing = "intact.image_missing"
    return [("4", None), ("3", missing), ("2", None), ("1", missing), ("5", None)]


def no_tar_beside(path: Path) -> Rows:
    write_parquet(path.with_suffix(".parquet"), {"key": ["1", None], "caption": ["a b c", None]})
    return [("1", "intact.image_missing"), ("000000001", "intact.caption_missing")]


def keys_twice(path: Path) -> Rows:
    members = [*sample("1"), *sample("2"), *sample("1"), *sample("1"), *sample("3")]
    write_tar(path.with_suffix(".tar"), members)
    write_parquet(path.with_suffix(".parquet"), {"key": ["1", "1", "3"], "caption": ["a b c"] * 3})
    twice = "intact.duplicate_key"
    return [("1", None), ("1", twice), ("3", None), ("2", None), ("1", twice)]


def odd_captions(path: Path) -> Rows:
    captions = {
        "null": None,
        "empty": b"",
        "blank": " \t\u3000\x1c\x85\u2028".encode(),
        "megabyte": b"red shoe " * (1 << 17),
        "word": b"x" * (1 << 20),
        "control": b"a\x00b\x07c\x1b[31m d\x7f\r\n",
        "bidi": "\u202ered\u202c shoe \ufeff\u200b \U000e0041".encode(),
        "latin1": b"caf\xe9 au lait",
        "surrogate": b"a \xed\xa0\xbd b",
    }
    images = [(f"{key}.png", picture(300, 300)) for key in captions]
    write_tar(path.with_suffix(".tar"), images)
    column = pa.array(captions.values(), pa.binary()).view(pa.string())
    write_parquet(path.with_suffix(".parquet"), {"key": list(captions), "caption": column})
    missing, broken = "intact.caption_missing", "intact.caption_not_utf8"
    wrong = dict.fromkeys(["null", "empty", "blank"], missing)
    wrong |= dict.fromkeys(["latin1", "surrogate"], broken)
    return [(key, wrong.get(key)) for key in captions]


def bombs(path: Path) -> Rows:
    text = zlib.compress(bytes(1 << 27), 9)
    images = {
        "square": png(60_000, 60_000),
        "strip": png(1, 178_956_971),
        "claims": png(13_377, 13_377),  # just within the limit; the pixels are missing
        "text": png(9, 9, (b"zTXt", b"Comment\0\0" + text)),
        "profile": png(9, 9, (b"iCCP", b"icc\0\0" + text)),
    }
    members = [(f"{key}.png", data) for key, data in images.items()]
    texts = [(f"{key}.txt", CAPTION) for key in images]
    paired = [member for pair in zip(members, texts, strict=True) for member in pair]
    write_tar(path.with_suffix(".tar"), paired)
    too_large, damaged = "intact.image_too_large", "intact.image_damaged"
    undecodable = "intact.image_undecodable"
    return [
        ("square", too_large),
        ("strip", too_large),
        ("claims", damaged),
        ("text", undecodable),
        ("profile", undecodable),
    ]


def odd_members(path: Path) -> Rows:
    with tarfile.open(path.with_suffix(".tar"), "w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("1.png", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        long = "x" * 120
        for name, data in [("2.PNG", picture(300, 300)), ("2.txt", CAPTION), (".3.png", b"")] + [
            (f"../{long}.{end}", data) for end, data in (("png", picture(9, 9)), ("txt", CAPTION))
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return [("2", None), (f"../{long}", None)]


SHARDS = (
    zero_bytes,
    no_members,
    no_tar_at_all,
    compressed,
    cut_off,
    header_overwritten,
    members_missing,
    parquet_and_tar_unequal,
    no_tar_beside,
    keys_twice,
    odd_captions,
    bombs,
    odd_members,
)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Rows]]:
    """Return the output of one run over all the broken shards, and the reasons expected."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "in").mkdir()
    expected = {make.__name__: make(folder / "in" / make.__name__) for make in SHARDS}
    run(folder / "in", folder / "out")
    return folder / "out", expected


@pytest.mark.parametrize("shard", [make.__name__ for make in SHARDS])
def test_every_row_of_a_broken_shard_has_its_reason(
    shard: str, broken: tuple[Path, dict[str, Rows]]
) -> None:
    output, expected = broken

    assert reasons(output, shard) == expected[shard]


def test_the_account_of_broken_shards_closes(broken: tuple[Path, dict[str, Rows]]) -> None:
    output, expected = broken
    rows = {name: len(found) for name, found in expected.items()}

    manifest = manifest_of(output)

    assert {shard["shard"]: shard["rows"] for shard in manifest["shards"]} == rows
    assert manifest["rows_in"] == sum(rows.values())
    assert manifest["rows_in"] == manifest["kept"] + sum(manifest["dropped"].values())


def test_damage_is_told_and_where_it_is(broken: tuple[Path, dict[str, Rows]]) -> None:
    folder = broken[0].with_name("in")
    size = {path.stem: path.stat().st_size for path in folder.glob("*.tar")}
    overwritten = (folder / "header_overwritten.tar").read_bytes().index(b"?" * BLOCK)

    manifest = manifest_of(broken[0])

    ends, before = "the file ends at byte", "before the zeros that end a tar"
    assert {s["shard"]: s["damage"] for s in manifest["shards"] if s["damage"]} == {
        "compressed": [f"{ends} {size['compressed']}, {before}"],
        "cut_off": [f"{ends} {size['cut_off']}, within a member that needs more"],
        "header_overwritten": [f"no valid tar header at byte {overwritten}"],
        "no_tar_at_all": ["no valid tar header at byte 0", f"{ends} 1485, {before}"],
        "zero_bytes": [f"{ends} 0, {before}"],
    }
