"""Read what an OpenAI-compatible server answers, whatever that is."""

import email.utils
import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recaption.captioner import Caption, failed

_MALFORMED = (ValueError, LookupError, TypeError, AttributeError)
"""What looking into JSON of another shape raises."""


def retry_after_s(value: str) -> float:
    """Return how long a server wants to be left alone; it says seconds or a date."""
    if value.strip().isdecimal():
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value)
        return max(until.timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0


def read_message(answer: bytes) -> str:
    """Return why a server refused, in its own words."""
    try:
        told = json.loads(answer)
        told = told.get("error", told)
        return str(told["message"])
    except (*_MALFORMED, RecursionError):
        return answer[:200].decode(errors="replace")


def read_captions(answer: bytes, count: int) -> list[Caption]:
    """Read the captions of one image: its draws, in the order they come."""
    try:
        told = json.loads(answer)
        captions = [_read(choice, draw) for draw, choice in enumerate(told["choices"][:count])]
    except (*_MALFORMED, RecursionError):
        return failed("malformed", count)
    if count == 1 and captions and captions[0].tokens is None:
        captions = [replace(captions[0], tokens=_tokens(told))]
    return captions + failed("empty", count)[len(captions) :]


def _read(choice: Any, draw: int) -> Caption:
    """Read one of the choices of an answer."""
    try:
        message, finish = choice["message"], choice.get("finish_reason")
        text = message.get("content") or ""
        refused = finish == "content_filter" or bool(message.get("refusal"))
    except _MALFORMED:
        return Caption("", draw, failure="malformed")
    if refused or not isinstance(text, str):
        return Caption("", draw, failure="refused" if refused else "malformed")
    logprob, tokens = _likelihood(choice)
    finish = finish if finish in ("stop", "length") else None
    return Caption(text, draw, logprob, tokens, finish, None if text else "empty")


def _likelihood(choice: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """Return the log probability of a choice and how many tokens it has, where that is told."""
    try:
        values = [float(token["logprob"]) for token in choice["logprobs"]["content"]]
        total = math.fsum(values)
    except (*_MALFORMED, OverflowError):
        return None, None
    return (total if math.isfinite(total) else None, len(values)) if values else (None, None)


def _tokens(told: Mapping[str, Any]) -> int | None:
    """Return how many tokens the server counted."""
    usage = told.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) else None
