"""Explain tells the whole story of one pair."""

import hashlib
from pathlib import Path

import pytest

from pipelines.commands import main
from tests.outputs import rows_of
from tests.shards import picture, write_parquet, write_shard

RECIPE = """
name = "mine"
tables.max_ngrams = 9
[rules.shorter_side]
min_exclusive = 200
[rules.images_per_text]
max_inclusive = 1
[rules.ngram_rank]
max_inclusive = 5
[rules.clip_score]
min_inclusive = 0.3
"""
STORY = """\
{uid}  dropped: images_per_text.too_many
  row 1 of shard 0, key b

input
  url              https://e.example/b
  caption          a red\\x0ashoe\\x1b[31m

measured
  error            none
  char_count       15
  word_count       3
  token_count      4
  language         en
  language_score   {score}
  ngram_rank       7
  images_per_text  2
  texts_per_image  1
  sha256           {sha256}
  format           PNG
  width            201
  height           402
  shorter_side_px  201
  aspect_ratio     2
  image_bytes      {size}
  image_offset     {offset}
  nsfw_score       unknown
  clip_score       unknown
  decoded          unknown

rules of recipe mine, in the order of judging
  intact           error is null                        none                     ok
  shorter_side     shorter_side_px > 200                201                      ok
  images_per_text  images_per_text <= 1                 2                        images_per_text.too_many
  ngram_rank       ngram_rank <= 5                      7                        ngram_rank.too_rare
  clip_score       clip_score >= 0.3                    unknown                  unknown, so not broken

judged against
  tables/ngrams    distinct 9, occurrences 17, listed 9
  tables/texts     distinct 2, shared 1, listed 1
  tables/images    distinct 3, shared 0, listed 0
  rarest n-grams   'shoe 31m' rank 7, 'shoe' rank 6, 'red shoe' rank 5, 'a red' rank 4, 'a' rank 3
"""  # noqa: E501  # as it is


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    (folder / "mine.toml").write_text(RECIPE)
    shared = "a red\nshoe\x1b[31m"
    images = [picture(201, 300), picture(201, 402), picture(300, 300)]
    pairs = zip("abc", images, [shared, shared, "red sofa"], strict=True)
    write_shard(folder / "in" / "0", pairs)
    recipe = ["--recipe", str(folder / "mine.toml")]
    paths = ["--input", str(folder / "in"), "--output", str(folder / "out")]
    assert main(["filter", *paths, *recipe, "--workers", "1"]) == 0
    return folder / "out"


def story(uid: str, output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["explain", uid, "--from", str(output)]) == 0
    return capsys.readouterr().out


def test_a_dropped_pairs_story_is_told(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = rows_of(output, "columns")[1]

    told = story(row["uid"], output, capsys)

    assert told == STORY.format(
        uid=hashlib.sha256(b"https://e.example/b\0a red\nshoe\x1b[31m").hexdigest()[:32],
        score=f"{row['language_score']:.4g}",
        sha256=hashlib.sha256(picture(201, 402)).hexdigest(),
        size=f"{len(picture(201, 402)):,}",
        offset=f"{row['image_offset']:,}",
    )


def test_a_kept_pairs_story_says_so(filtered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = next(row for row in rows_of(filtered, "decisions") if row["reason"] is None)

    told = story(kept["uid"], filtered, capsys)

    verdicts = [line.split()[-1] for line in told.splitlines() if line.startswith("  ")]
    assert told.startswith(f"{kept['uid']}  kept\n")
    assert verdicts.count("ok") == 9  # intact, and the eight rules of align


def test_all_pairs_of_one_uid_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"url": ["u", "v", "u"], "caption": ["a b c", "a b c", "a b c"]}
    write_parquet(tmp_path / "in" / "0.parquet", columns)
    paths = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    main(["filter", *paths, "--workers", "1"])
    uid = hashlib.sha256(b"u\0a b c").hexdigest()[:32]

    told = story(uid, tmp_path / "out", capsys)

    places = [line for line in told.splitlines() if line.startswith("  row ")]
    assert places == ["  row 0 of shard 0, key 000000000", "  row 2 of shard 0, key 000000002"]


def test_what_was_decided_elsewhere_is_explained_by_the_new_recipe(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "lax.toml"
    recipe.write_text(RECIPE.replace('"mine"', '"lax"').replace("= 1\n", "= 2\n"))
    there = ["--from", str(output), "--output", str(tmp_path / "out"), "--recipe", str(recipe)]
    assert main(["decide", *there]) == 0
    uid = rows_of(output, "columns")[1]["uid"]

    told = story(uid, tmp_path / "out", capsys)

    assert told.startswith(f"{uid}  dropped: ngram_rank.too_rare\n")
    assert "rules of recipe lax" in told
    assert "'shoe 31m' rank 7" in told


def test_a_uid_that_is_not_there_is_refused(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()

    code = main(["explain", "f" * 32, "--from", str(output)])

    assert (code, capsys.readouterr()) == (
        2,
        (
            "",
            f"altmill: uid {'f' * 32} must be one of the 3 rows of {output}, got none with it; "
            "copy one from decisions/ or the report\n",
        ),
    )
