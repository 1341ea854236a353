"""Fetch images: in time, within bounds, politely, and from public addresses alone."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from filters.parsing import check_bounds
from pipelines.addresses import Network, checked_socket
from pipelines.failures import PREFIX_BYTES, FetchFailedError, check_image, of_error, of_status
from pipelines.opt_outs import opts_out
from pipelines.politeness import Host
from pipelines.urls import UnusableError, follow
from recaption.answers import retry_after_s

_REDIRECTS = (301, 302, 303, 307, 308)
_SLOW_DOWN = (429, 503)
_LONGEST_HEADER = 1 << 15
"""Content security policies of real sites fill 8 KiB, where aiohttp would stop."""
_CONNECT_S = 10.0
"""As img2dataset's timeout; many hosts of an old crawl are gone."""
_DNS_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """How images are fetched, by each process."""

    user_agent: str
    timeout_s: float = 30.0
    """For an answer with its body, from the moment that a connection may be made."""
    retries: int = 2
    """More tries, where one may help."""
    connections: int = 128
    per_host: int = 8
    """Connections to one host."""
    max_bytes: int = 20_000_000
    """Of an image file; each connection may need that much memory."""
    max_redirects: int = 5
    max_pause_s: float = 60.0
    """How long a host may ask to be left alone; its images fail if it wants more."""
    backoff_s: float = 1.0
    """Before the second try; twice as long before each further one."""
    honour_opt_outs: bool = True
    allowed: tuple[Network, ...] = ()
    """Networks that may be connected to though they are not public."""

    def __post_init__(self) -> None:
        check_bounds(
            self,
            "",
            (
                ("timeout_s", self.timeout_s > 0, "above 0"),
                ("retries", self.retries >= 0, "at least 0"),
                ("connections", self.connections >= 1, "at least 1"),
                ("per_host", self.per_host >= 1, "at least 1"),
                ("max_bytes", self.max_bytes >= 1, "at least 1"),
                ("max_redirects", self.max_redirects >= 0, "at least 0"),
                ("max_pause_s", self.max_pause_s >= 0, "at least 0"),
            ),
        )


@asynccontextmanager
async def fetching(settings: Fetching) -> AsyncIterator["Fetcher"]:
    """Yield a fetcher, and close its connections in the end."""
    resolvers = ThreadPoolExecutor(settings.connections, "resolver")
    asyncio.get_running_loop().set_default_executor(resolvers)  # `getaddrinfo` waits in its threads
    connector = aiohttp.TCPConnector(
        limit=0,  # turns and connections are counted here, outside of timeouts
        ttl_dns_cache=_DNS_S,
        dns_cache_max_size=100_000,
        socket_factory=checked_socket(settings.allowed),
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={
            "User-Agent": settings.user_agent,
            "Accept": "image/avif,image/webp,image/*;q=0.9,*/*;q=0.5",
            "Accept-Encoding": "identity",
        },
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        max_line_size=_LONGEST_HEADER,
        max_field_size=_LONGEST_HEADER,
    ) as session:
        yield Fetcher(session, settings)


class Fetcher:
    """Fetches images by URL; what it learns of hosts counts for all of them."""

    def __init__(self, session: aiohttp.ClientSession, settings: Fetching) -> None:
        self._session, self._settings = session, settings
        self._connections = asyncio.Semaphore(settings.connections)
        self._hosts: dict[str, Host] = defaultdict(
            lambda: Host(asyncio.Semaphore(settings.per_host))
        )

    async def fetch(self, url: URL) -> bytes:
        """Return the image file at a URL, which may be behind redirects.

        Raises:
            FetchFailedError: There is none, for the reason told.
        """
        for tried in range(self._settings.retries + 1):
            try:
                return await self._follow(url)
            except FetchFailedError as failure:
                if not failure.again or tried == self._settings.retries:
                    raise
            await asyncio.sleep(self._settings.backoff_s * 2**tried)
        raise AssertionError  # the last try returns or raises

    async def _follow(self, url: URL) -> bytes:
        for _ in range(self._settings.max_redirects + 1):
            answer = await self._ask(url)
            if isinstance(answer, bytes):
                return answer
            try:
                url = follow(url, answer)
            except UnusableError as error:
                raise FetchFailedError(f"redirect_to_{error}") from None
        raise FetchFailedError("too_many_redirects")

    async def _ask(self, url: URL) -> bytes | str:
        """Return what a host answers when its turn has come: an image, or a redirect's location."""
        host = self._hosts[url.raw_host or ""]
        async with host.turn(self._settings.max_pause_s), self._connections:
            asked_at = time.monotonic()
            try:
                async with (
                    asyncio.timeout(self._settings.timeout_s),
                    self._session.get(url, allow_redirects=False) as response,
                ):
                    answer = await self._read(response, host)
            except Exception as error:  # no server's answer shall end the run
                failure = of_error(error)
                if failure.unanswered:
                    host.refused(asked_at)
                else:
                    host.answered()
                raise failure from None
            host.answered()
            return answer

    async def _read(self, response: aiohttp.ClientResponse, host: Host) -> bytes | str:
        if response.status in _REDIRECTS and (target := response.headers.get("Location")):
            return target
        if response.status != 200:
            raise of_status(response.status, hopeless=not self._pause(response, host))
        told = response.headers.getall("X-Robots-Tag", [])
        if self._settings.honour_opt_outs and opts_out(told, self._settings.user_agent):
            raise FetchFailedError("opted_out")
        return await self._body(response)

    def _pause(self, response: aiohttp.ClientResponse, host: Host) -> bool:
        """Leave a host alone that asks for it; say whether another try is worth the wait."""
        if response.status not in _SLOW_DOWN:
            return True
        wanted_s = retry_after_s(response.headers.get("Retry-After", ""))
        host.pause(max(wanted_s, self._settings.backoff_s))
        return wanted_s <= self._settings.max_pause_s

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """Read an image file; of what is none, or too large, no more than it takes to see that."""
        most = self._settings.max_bytes
        if (response.content_length or 0) > most:
            raise FetchFailedError("too_large")
        told = response.headers.get("Content-Type", "")
        body, checked = bytearray(), False
        async for piece in response.content.iter_any():
            body += piece
            if not checked and len(body) >= PREFIX_BYTES:
                check_image(bytes(body[:PREFIX_BYTES]), told)
                checked = True
            if len(body) > most:
                raise FetchFailedError("too_large")
        if not checked:
            check_image(bytes(body), told)
        return bytes(body)
