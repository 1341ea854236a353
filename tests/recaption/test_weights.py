"""Model folders, whole and broken, and what transformers' own models say after their import."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from filters.rule import RecipeError

torch = pytest.importorskip("torch", reason="needs the extra recaption")
transformers = pytest.importorskip("transformers", reason="needs the extra recaption")

from recaption.weights import CONFIG, WEIGHTS, Package, open_model, save_model  # noqa: E402
from tests.recaption import published, tiny  # noqa: E402


def close(a: Any, b: Any) -> bool:
    return bool(torch.allclose(a, b, atol=1e-4))


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def package() -> Package:
    return Package(model=tiny.blip(), vocabulary=published.TOKENS, origin="a test")


def test_what_is_loaded_is_what_was_saved(package: Package, tmp_path: Path) -> None:
    digest = save_model(tmp_path, package)

    loaded = open_model(str(tmp_path))

    assert replace(loaded, model=package.model) == replace(package, digest=digest)
    assert loaded.model.config == package.model.config
    assert not loaded.model.training
    ids = tiny.texts(2, 5, tiny.DEC)
    for model in (loaded.model, package.model):
        states = model.encode_image(tiny.pixels(2))
        assert torch.equal(
            model.logits(ids, torch.ones_like(ids), states),
            package.model.logits(ids, torch.ones_like(ids), states),
        )
    assert save_model(tmp_path / "again", loaded) == digest


@pytest.mark.parametrize(("seed", "length"), [(0, 7), (1, 30)])
def test_an_imported_captioner_says_what_transformers_says(
    seed: int, length: int, tmp_path: Path
) -> None:
    theirs = published.write(tmp_path, "BlipForConditionalGeneration", seed)
    ours = open_model(str(tmp_path)).model
    ids = tiny.texts(3, length, tiny.DEC)
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0

    expected = theirs(input_ids=ids, pixel_values=tiny.pixels(3), attention_mask=mask)
    states = ours.encode_image(tiny.pixels(3))
    logits = ours.logits(ids, mask, states)

    assert close(states, expected.last_hidden_state)
    assert close(logits[mask.bool()], expected.logits[mask.bool()])
    assert expected.logits.std() > 1  # there is something to be compared
    assert (ours.config.encoder, ours.config.decoder) == (False, True)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_imported_filter_says_what_transformers_says(seed: int, tmp_path: Path) -> None:
    theirs = published.write(tmp_path, "BlipForImageTextRetrieval", seed)
    ours = open_model(str(tmp_path)).model
    ids, images = tiny.texts(3, 9, tiny.ENC), tiny.pixels(3)
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0

    matched = theirs(input_ids=ids, pixel_values=images, attention_mask=mask)
    cosines = theirs(input_ids=ids, pixel_values=images, attention_mask=mask, use_itm_head=False)
    states = ours.encode_image(images)

    assert close(states, matched.last_hidden_state)
    assert close(ours.match(ids, mask, states), matched.itm_score)
    found = ours.project_image(states) @ ours.encode_text(ids, mask).T
    assert close(found, cosines.itm_score)
    assert (ours.config.encoder, ours.config.decoder) == (True, False)


def test_an_import_tells_how_images_are_prepared_and_is_kept_as_it_is(tmp_path: Path) -> None:
    published.write(tmp_path / "theirs", "BlipForConditionalGeneration")

    package = open_model(str(tmp_path / "theirs"))

    assert package.preprocess == {
        "image_px": 24,
        "resample": "bicubic",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
    }
    assert package.vocabulary == published.TOKENS
    assert save_model(tmp_path / "ours", package) == package.digest
    assert replace(open_model(str(tmp_path / "ours")), model=package.model) == package


def test_specials_that_are_published_by_id_only_are_added(tmp_path: Path) -> None:
    published.write(tmp_path, "BlipForConditionalGeneration", bos_token_id=tiny.VOCABULARY - 2)
    shorter = {token: place for place, token in enumerate(published.TOKENS[:-2])}
    transformers.BertTokenizer(vocab=shorter).save_pretrained(tmp_path)

    assert open_model(str(tmp_path)).vocabulary[-2:] == ["[DEC]", "[ENC]"]


def _cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def _of_another_size(folder: Path) -> None:
    model = tiny.blip(embed_width=4)
    save_model(folder / "other", Package(model=model, vocabulary=published.TOKENS))
    (folder / "other" / WEIGHTS).replace(folder / WEIGHTS)


def _without_a_part(folder: Path) -> None:
    model = tiny.blip(encoder=False)
    save_model(folder / "other", Package(model=model, vocabulary=published.TOKENS))
    (folder / "other" / WEIGHTS).replace(folder / WEIGHTS)


def _pickled(folder: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, folder / WEIGHTS)


def _without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _not_finite(folder: Path) -> None:
    model = tiny.blip()
    model.match_head.bias[1] = torch.nan
    save_model(folder, Package(model=model, vocabulary=published.TOKENS))


def _with_another_vocabulary(folder: Path) -> None:
    (folder / "vocab.txt").write_text("[PAD]\n")


def _configured(changes: dict[str, Any]) -> Any:
    def change(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text()) | changes
        (folder / CONFIG).write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_cut, r"got model\.safetensors that is cut or of another format"),
        (_pickled, r"got model\.safetensors that is cut or of another format"),
        (_of_another_size, r"got image_projection\.weight of shape \(4, 16\) for \(8, 16\)"),
        (_without_a_part, "got no weight image_projection.bias in"),
        (_without_weights, r"No such file.*model\.safetensors"),
        (_not_finite, r"got NaN or infinity in match_head\.bias"),
        (_with_another_vocabulary, "got 1 tokens for 40 of config.json"),
        (_configured({"format": 2}), "got format 2 of config.json"),
        (_configured({"model": {"width": 3}}), "got a config.json with .*width"),
        (_configured({"preprocess": {}}), "got a config.json with 'mean'"),
    ],
)
def test_a_damaged_folder_is_refused_by_name(
    damage: Any, told: str, package: Package, tmp_path: Path
) -> None:
    save_model(tmp_path, package)
    damage(tmp_path)

    with pytest.raises(RecipeError, match=told) as caught:
        open_model(str(tmp_path))

    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (None, "got no readable config.json"),
        ('{"model_type": "llama"}', "got config.json says llama"),
        ("[]", "got config.json says neither"),
        ('{"model_type": "blip", "architectures": ["BlipForQuestionAnswering"]}', "only BlipForC"),
        (
            '{"model_type": "blip", "architectures": ["BlipForImageTextRetrieval"],'
            ' "text_config": {"hidden_act": "relu"}}',
            "got text_config.hidden_act relu",
        ),
        ('{"model_type": "blip", "architectures": ["BlipForImageTextRetrieval"]}', "no file named"),
    ],
)
def test_a_folder_of_another_model_is_refused(
    config: str | None, told: str, tmp_path: Path
) -> None:
    if config:
        (tmp_path / CONFIG).write_text(config)

    with pytest.raises(RecipeError, match=told):
        open_model(str(tmp_path))


def test_a_checkpoint_without_its_heads_is_refused(tmp_path: Path) -> None:
    published.write(tmp_path, "BlipForConditionalGeneration")
    config = json.loads((tmp_path / CONFIG).read_text())
    config["architectures"] = ["BlipForImageTextRetrieval"]
    (tmp_path / CONFIG).write_text(json.dumps(config))

    with pytest.raises(RecipeError, match=r"got no weight itm_head\.bias"):
        open_model(str(tmp_path))


def test_a_published_model_without_a_processor_gets_blips(tmp_path: Path) -> None:
    published.write(tmp_path, "BlipForConditionalGeneration")
    (tmp_path / "preprocessor_config.json").unlink()

    assert open_model(str(tmp_path)).mean == (0.48145466, 0.4578275, 0.40821073)


def test_images_prepared_otherwise_are_refused(tmp_path: Path) -> None:
    published.write(tmp_path, "BlipForConditionalGeneration")
    (tmp_path / "preprocessor_config.json").write_text('{"resample": 2}')

    with pytest.raises(RecipeError, match=r"got images resampled by 2 in .*; only bicubic"):
        open_model(str(tmp_path))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    published.write(tmp_path, "BlipForConditionalGeneration")
    few = {token: place for place, token in enumerate(published.TOKENS[:20])}
    transformers.BertTokenizer(vocab=few).save_pretrained(tmp_path)

    with pytest.raises(RecipeError, match=r"got 20 tokens for 40 embeddings"):
        open_model(str(tmp_path))


def test_a_path_to_nothing_is_no_hub_id(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="got no such folder, and no hub id in"):
        open_model(str(tmp_path / "nothing"))


def test_a_hub_id_without_a_network_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(RecipeError, match="hub id that was downloaded or can be") as caught:
        open_model("no-such-user/no-such-model")

    assert "\n" not in str(caught.value)
