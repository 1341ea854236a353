"""Whatever a server does, the row has its image or a reason, and the shard is img2dataset's."""

import socket
from pathlib import Path

import pytest

from tests.pipelines.downloads import (
    download,
    errors_of,
    write_list,
)
from tests.pipelines.web import (
    Act,
    Web,
    bomb,
    drips,
    floods,
    in_turn,
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
