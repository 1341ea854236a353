"""Whether a server asks, by `X-Robots-Tag`, that an image is not used.

Source: Google's specification of the header (developers.google.com/search/docs/crawling-indexing/
robots-meta-tag), and `noai` and `noimageai` as DeviantArt proposed them in 2022; img2dataset
honours the same four directives.  `none` stands for `noindex, nofollow`.
"""

from collections.abc import Iterable

OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})

_WITH_VALUE = ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview")
"""Directives with a colon in them, which no crawler is called."""


def opts_out(headers: Iterable[str], user_agent: str) -> bool:
    """Say whether some directive is against use.

    Args:
        headers: The values of all `X-Robots-Tag` headers: directives between commas, those after
            `NAME:` for the crawler NAME alone.
        user_agent: Ours; a NAME that is part of it is meant for us.
    """
    return any(_says_no(header.lower(), user_agent.lower()) for header in headers)


def _says_no(header: str, user_agent: str) -> bool:
    ours = True
    for part in header.split(","):
        name, colon, directive = part.partition(":")
        if not colon or name.strip() in _WITH_VALUE:
            directive = part
        else:
            ours = name.strip() == "*" or name.strip() in user_agent
        if ours and directive.strip() in OPT_OUTS:
            return True
    return False
