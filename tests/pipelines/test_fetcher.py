"""Whatever a server does, the row has its image or a reason, and other rows do not suffer."""

import socket
from pathlib import Path

import pytest

from pipelines.politeness import GIVE_UP_AFTER
from tests.pipelines.downloads import download, errors_of, write_list
from tests.pipelines.web import (
    Act,
    Web,
    bomb,
    drips,
    floods,
    in_turn,
    lingers,
    raw,
    redirects,
    sends,
    serving,
    status,
)
from tests.shards import photo, picture

pytestmark = pytest.mark.usefixtures("guarded")

JPEG = photo(1)
HTML = b"<!DOCTYPE html><html><title>Not found</title></html>"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TWO_GB = 2 << 30
BOUND = 1_000_000

PAGES: dict[str, tuple[Act, str | None]] = {
    "/ok": (sends(JPEG), None),
    "/as-text": (sends(picture(50, 40), Content_Type="text/plain"), None),
    "/for-others": (sends(JPEG, X_Robots_Tag="otherbot: noindex, noai"), None),
    "/moved": (redirects("/ok", 301), None),
    "/moved-twice": (redirects("/moved", 308), None),
    "/later": (in_turn(status(429, Retry_After="1"), sends(JPEG)), None),
    "/shaky": (in_turn(status(503), raw(b""), sends(JPEG)), None),
    "/missing": (status(404), "http_404"),
    "/forbidden": (status(403), "http_403"),
    "/much-later": (status(429, Retry_After="3600"), "http_429"),
    "/never": (status(429, Retry_After="1"), "http_429"),
    "/broken-server": (status(500), "http_500"),
    "/nothing-new": (sends(b"", 204), "http_204"),
    "/loop": (redirects("/loop"), "too_many_redirects"),
    "/to-private": (redirects("http://10.0.0.1/admin.jpg"), "address_refused"),
    "/to-metadata": (redirects("//169.254.169.254/latest/"), "address_refused"),
    "/to-file": (redirects("file:///etc/passwd"), "redirect_to_url_scheme"),
    "/to-ssh": (redirects("http://127.0.0.1:22/"), "redirect_to_url_port"),
    "/to-nowhere": (redirects("http://[::1/"), "redirect_to_url_invalid"),
    "/slow": (drips(JPEG, 0.05), "timeout"),
    "/html": (sends(HTML, Content_Type="text/html; charset=utf-8"), "not_an_image:text/html"),
    "/html-as-jpeg": (sends(HTML), "not_an_image:text/html"),
    "/svg": (sends(b"<?xml version='1.0'?><svg/>"), "not_an_image:image/svg+xml"),
    "/video": (sends(bytes(600), Content_Type="video/mp4"), "not_an_image:video/mp4"),
    "/junk": (sends(b"junk" * 200), "not_an_image:unknown"),
    "/strange": (sends(b"junk", Content_Type="x/\xe9vil"), "not_an_image:unknown"),
    "/huge": (floods(JPEG, TWO_GB, declared=False), "too_large"),
    "/huge-and-says-so": (floods(JPEG, TWO_GB, declared=True), "too_large"),
    "/zeros": (floods(b"", TWO_GB, declared=False), "not_an_image:unknown"),
    "/bomb": (bomb(JPEG[:600], 100 * BOUND), "too_large"),
    "/opted-out": (sends(JPEG, X_Robots_Tag="noarchive, NoImageAI"), "opted_out"),
    "/truncated": (sends(JPEG, Content_Length=str(len(JPEG) + 9), Connection="close"), "truncated"),
    "/chunk-cut": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFF\r\nab"),
        "truncated",
    ),
    "/two-lengths": (sends(JPEG, content_length="7", Content_length="9"), "malformed_answer"),
    "/negative-length": (sends(JPEG, Content_Length="-5"), "malformed_answer"),
    "/empty": (sends(b""), "empty"),
    "/broken": (sends(b"\xff\xd8\xff" + b"x" * 999), "image_undecodable"),
    "/cut-in-header": (sends(JPEG[:100]), "image_undecodable"),
    "/long-header": (sends(JPEG, X_A="a" * 100_000), "headers_too_large"),
    "/many-headers": (sends(JPEG, **{f"X_{n}": "a" for n in range(999)}), "headers_too_large"),
    "/no-http": (raw(b"220 ftp ready\r\n"), "malformed_answer"),
    "/hangs-up": (raw(b""), "disconnected"),
}
ELSEWHERE = {
    "": "url_missing",
    "file:///etc/passwd": "url_scheme",
    "ftp://a.example/a.jpg": "url_scheme",
    "data:image/png;base64,AAAA": "url_scheme",
    "javascript:alert(1)": "url_scheme",
    "http://user:secret@a.example/a.jpg": "url_credentials",
    "http://a.example:22/": "url_port",
    "http://a.example:99999/": "url_invalid",
    "http://a b.example/": "url_invalid",
    "http://a.example/" + "a" * 10_000: "url_invalid",
    "http://[fe80::1%25eth0]/": "url_invalid",
    "http://a..example/": "url_invalid",
    f"http://{'a' * 64}.example/": "url_invalid",
    "http://127.0.0.2/a.jpg": "address_refused",
    "http://0.0.0.0/a.jpg": "address_refused",
    "http://[::1]/a.jpg": "address_refused",
    "http://[::ffff:10.0.0.1]/a.jpg": "address_refused",
    "http://192.168.0.1/a.jpg": "address_refused",
    "http://0x7f000002/a.jpg": "host_unknown",
    "http://no-such-host.invalid/": "host_unknown",
}


@pytest.fixture(scope="module")
def pages() -> dict[str, Act]:
    return {path: act for path, (act, _) in PAGES.items()}


def urls_of(web: Web) -> list[str]:
    """Return the pages' URLs, each on a host of its own, so that none suffers for another."""
    return [web.url(path, f"host{number}.example") for number, path in enumerate(PAGES)]


def free_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


def test_every_row_has_its_image_or_a_reason(pages: dict[str, Act], tmp_path: Path) -> None:
    with serving(pages) as web:
        more = {
            None: "url_missing",
            f"http://a.example:{free_port()}/": "connect_failed",
            web.url("/ok", "a.example").replace("http", "https"): "tls_failed",
            web.url("/ok", "b\u00fccher.example"): None,
        }
        source = write_list(tmp_path / "in", [*urls_of(web), *ELSEWHERE, *more])

        code = download(source, tmp_path / "out", "--max-bytes", str(BOUND))

    told = [*(error for _, error in PAGES.values()), *ELSEWHERE.values(), *more.values()]
    assert code == 0
    assert dict(zip([*PAGES, *ELSEWHERE, *more], errors_of(tmp_path / "out"), strict=True)) == dict(
        zip([*PAGES, *ELSEWHERE, *more], told, strict=True)
    )
    assert web.sent["/huge"] < 16 * BOUND  # what fits into the buffers of sockets, not 2 GB
    assert web.sent["/zeros"] < 16 * BOUND


def test_opt_outs_are_disregarded_only_on_demand(tmp_path: Path) -> None:
    with serving({"/a": sends(JPEG, X_Robots_Tag="noai")}) as web:
        source = write_list(tmp_path / "in", [web.url("/a")])

        download(source, tmp_path / "out", "--ignore-opt-outs")

    assert errors_of(tmp_path / "out") == [None]


def test_the_server_is_told_who_asks(tmp_path: Path) -> None:
    with serving({"/a": sends(JPEG)}) as web:
        source = write_list(tmp_path / "in", [web.url("/a")])

        download(source, tmp_path / "out", "--user-agent", "bot (+https://me.example)")

        assert web.agents == {"bot (+https://me.example)"}


def test_no_proxy_of_the_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://10.0.0.1:3128")
    with serving({"/a": sends(JPEG)}) as web:
        download(write_list(tmp_path / "in", [web.url("/a")]), tmp_path / "out")

    assert errors_of(tmp_path / "out") == [None]


@pytest.mark.parametrize(
    ("addresses", "error"),
    [
        (["10.0.0.1"], "address_refused"),
        (["10.0.0.1", "169.254.169.254"], "address_refused"),
        (["10.0.0.1", "127.0.0.1"], None),
    ],
)
def test_a_name_leads_to_allowed_addresses_alone(
    addresses: list[str], error: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(_: str, port: int, *__: object, **___: object) -> list[object]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with serving({"/a": sends(JPEG)}) as web:
        source = write_list(tmp_path / "in", [web.url("/a", "rebound.example")])

        download(source, tmp_path / "out")

    assert errors_of(tmp_path / "out") == [error]


def test_a_host_has_no_more_connections_than_it_may(tmp_path: Path) -> None:
    pages = {f"/{n}": lingers(0.1, sends(JPEG)) for n in range(12)}
    with serving(pages) as web:
        urls = [web.url(path) for path in pages]

        download(write_list(tmp_path / "in", urls), tmp_path / "out", "--per-host", "3")
        of_one = web.most_at_once
        others = [web.url(path, f"{path[1:]}.example") for path in pages]
        download(write_list(tmp_path / "in2", others), tmp_path / "out2", "--per-host", "3")

        assert (of_one, 3 < web.most_at_once <= 12) == (3, True)


def test_all_connections_together_are_bounded(tmp_path: Path) -> None:
    pages = {f"/{n}": lingers(0.1, sends(JPEG)) for n in range(12)}
    with serving(pages) as web:
        urls = [web.url(path, f"{path[1:]}.example") for path in pages]

        download(write_list(tmp_path / "in", urls), tmp_path / "out", "--connections", "2")

        assert web.most_at_once == 2


def test_a_host_is_left_alone_for_as_long_as_it_asks(tmp_path: Path) -> None:
    pages = {"/busy": in_turn(status(429, Retry_After="2"), sends(JPEG)), "/b": sends(JPEG)}
    with serving(pages) as web:
        source = write_list(tmp_path / "in", [web.url("/busy"), web.url("/b")])

        download(source, tmp_path / "out", "--per-host", "1")

        first, *later = web.asked_at
        assert min(later) - first > 1.9
        assert web.times_asked == {"/busy": 2, "/b": 1}
    assert errors_of(tmp_path / "out") == [None, None]


def test_a_host_that_asks_for_too_long_is_not_asked_again(tmp_path: Path) -> None:
    pages = {"/busy": status(429, Retry_After="Fri, 31 Dec 2099 23:59:59 GMT"), "/b": sends(JPEG)}
    with serving(pages) as web:
        urls = [web.url("/busy"), web.url("/b"), web.url("/b", "other.example")]

        download(write_list(tmp_path / "in", urls), tmp_path / "out", "--per-host", "1")

        assert web.times_asked == {"/busy": 1, "/b": 1}
    assert errors_of(tmp_path / "out") == ["http_429", "host_paused", None]


def test_a_host_that_does_not_answer_is_given_up(tmp_path: Path, guarded: list[str]) -> None:
    dead = f"http://dead.example:{free_port()}"
    with serving({"/a": sends(JPEG)}) as web:
        urls = [*(f"{dead}/{n}" for n in range(100)), web.url("/a", "alive.example")]
        source = write_list(tmp_path / "in", urls)

        download(source, tmp_path / "out", "--per-host", "2", "--retries", "0")

    errors = errors_of(tmp_path / "out")
    tried = errors.count("connect_failed")
    assert GIVE_UP_AFTER <= tried <= 2 * GIVE_UP_AFTER
    assert errors == ["connect_failed"] * tried + ["host_given_up"] * (100 - tried) + [None]
    assert len(guarded) == tried + 1
