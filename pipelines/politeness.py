"""How a host is treated: few connections, pauses when it asks for them, and no insisting."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pipelines.failures import FetchFailedError

GIVE_UP_AFTER = 5
"""Times that a host has not answered, or refused with 429, before it is left alone.

Ours: of a host that does not answer, a shard with 10,000 of its images would wait for days."""


@dataclass(slots=True)
class Host:
    """One host, as all requests of a shard see it; times are of the monotonic clock."""

    connections: asyncio.Semaphore
    _resumes_at: float = 0.0
    _refused: int = 0
    """Times in a row; what is asked together counts once."""
    _refused_at: float = 0.0

    @asynccontextmanager
    async def turn(self, max_pause_s: float) -> AsyncIterator[None]:
        """Wait for a connection, and for the end of a pause.

        Raises:
            FetchFailedError: The host is given up, or wants a pause that is too long.
        """
        async with self.connections:
            while (pause_s := self._resumes_at - time.monotonic()) > 0:
                if pause_s > max_pause_s:
                    raise FetchFailedError("host_paused")
                await asyncio.sleep(pause_s)
            if self._refused >= GIVE_UP_AFTER:
                raise FetchFailedError("host_given_up")
            yield

    def pause(self, seconds: float) -> None:
        """Leave the host alone for so long."""
        self._resumes_at = max(self._resumes_at, time.monotonic() + seconds)

    def answered(self) -> None:
        """Note that the host is well."""
        self._refused = 0

    def refused(self, asked_at: float) -> None:
        """Note that the host does not answer, or wants to be left alone.

        Args:
            asked_at: When this was asked.
        """
        if asked_at >= self._refused_at:
            self._refused, self._refused_at = self._refused + 1, time.monotonic()
