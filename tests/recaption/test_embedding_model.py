"""Which encoder a recipe names, known without loading it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from filters.rule import RecipeError
from recaption.embedding import check_model, digest

pytest.importorskip("torch", reason="needs the extra recaption")
transformers = pytest.importorskip("transformers", reason="needs the extra recaption")


@pytest.mark.parametrize("model", ["", "models/sscd.torchscript.pt", "/a/b/c", "./model", "a b"])
def test_a_path_to_nothing_is_refused(model: str) -> None:
    with pytest.raises(RecipeError, match="which is not there; correct the path"):
        check_model(model)


def test_the_kind_of_a_model_is_told_without_loading_it(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_text("no model")

    models = (str(tmp_path / "a.pt"), str(tmp_path), "facebook/dinov2-small")
    kinds = [check_model(model) for model in models]

    assert kinds == ["file", "folder", "hub"]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name != "torch")

    with pytest.raises(RecipeError, match=r"embedding\.model must have torch .* got no torch; pip"):
        check_model("a/b")


def test_the_digest_of_a_file_is_its_contents(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"abc")

    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(str(tmp_path / "a.pt")) == f"sha256:{known}"


def test_the_digest_of_a_folder_is_its_files_and_their_names(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "config.json").write_text("{}")
    (tmp_path / "a" / "deep" / "weights").write_text("0")
    first = digest(str(tmp_path / "a"))

    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "b" / ".cache").mkdir()
    (tmp_path / "b" / ".cache" / "when").write_text("today")
    moved = digest(str(tmp_path / "b"))
    (tmp_path / "b" / "deep" / "weights").rename(tmp_path / "b" / "weights")
    renamed = digest(str(tmp_path / "b"))
    (tmp_path / "b" / "weights").write_text("1")
    changed = digest(str(tmp_path / "b"))

    assert first == moved
    assert len({first, renamed, changed}) == 3


def test_the_digest_of_a_hub_id_is_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    known = SimpleNamespace(_commit_hash="0" * 40)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda _: known)

    assert digest("facebook/dinov2-small") == f"commit:{'0' * 40}"


def test_a_hub_id_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_: str) -> None:
        raise OSError("we could not connect")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)

    with pytest.raises(RecipeError, match="'a/b': we could not connect"):
        digest("a/b")
