"""Captioners by name."""

import importlib.util

import pytest

from filters.rule import RecipeError
from recaption.captioner import Caption, open_captioner
from recaption.checking import Bounds
from recaption.config import Decode, Server
from tests.recaption.drawings import drawing, encoded
from tests.recaption.servers import says, serving


@pytest.mark.parametrize("name", ["", "blip", "blip:", "hf:", "openai:", "BLIP:x", "vllm:x", "x"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"^captioner must be like blip:.* got '.*'; correct it$"):
        open_captioner(name, Decode())


def test_a_model_of_transformers_is_of_this_machine() -> None:
    with pytest.raises(RecipeError, match="this machine or a hub id, got hf:s3:"):
        open_captioner("hf:s3://bucket/model", Decode())


def test_a_server_is_asked_as_told_and_what_is_no_caption_is_named() -> None:
    long, loop = "so long " + "a word and " * 200, "a cat and a cat and a cat and a"
    with serving(says("grey"), says(' "A  red\nsquare" ', long, loop, "...", "!")) as server:
        captioner = open_captioner(
            server.name,
            Decode(candidates=4),
            bounds=Bounds(max_chars=40),
            server=Server(timeout_s=5),
        )
        [captions] = captioner.caption([encoded(drawing(0))], ["1"])

    assert captions == [
        Caption("A red square", 0, finish="stop"),
        Caption("", 1, finish="stop", failure="too_long"),
        Caption("", 2, finish="stop", failure="repeats"),
        Caption("", 3, finish="stop", failure="empty"),
    ]
    assert captioner.spec["captioner"] == server.name
    assert captioner.spec["bounds"]["max_chars"] == 40


@pytest.mark.parametrize("name", ["blip:folder", "hf:folder"])
def test_what_needs_the_extra_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name != "torch")

    with pytest.raises(RecipeError, match=r"got no torch; pip install .*, or name a server, open"):
        open_captioner(name, Decode())
