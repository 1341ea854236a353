"""X-Robots-Tag, as Google specifies it and as it is found."""

import pytest

from pipelines.opt_outs import opts_out

AGENT = "Mozilla/5.0 (compatible; altmill/1.0)"


@pytest.mark.parametrize(
    "headers",
    [
        ["noai"],
        ["noimageai"],
        ["NoIndex"],
        ["noimageindex"],
        ["none"],
        ["nofollow, noindex"],
        ["all", "noindex"],
        ["altmill: noindex"],
        ["Altmill:noai,noimageai"],
        ["*: noai"],
        ["otherbot: nofollow, altmill: noai"],
        ["unavailable_after: 25 Jun 2010 15:00:00 PST, noindex"],
        ["max-image-preview:large, noindex"],
    ],
)
def test_a_server_that_says_no_is_heard(headers: list[str]) -> None:
    assert opts_out(headers, AGENT)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [""],
        ["all"],
        ["index, follow"],
        ["nofollow, noarchive, nosnippet"],
        ["otherbot: noindex"],
        ["otherbot: nofollow, noindex"],
        ["unavailable_after: 25 Jun 2010 15:00:00 PST"],
        ["max-snippet:-1"],
        ["noindexing"],
    ],
)
def test_what_is_said_of_others_or_of_something_else_is_no_opt_out(headers: list[str]) -> None:
    assert not opts_out(headers, AGENT)
