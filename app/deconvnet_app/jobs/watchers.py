"""Wakes whoever waits for a job to change.

What has changed is read from the database; only that it has is told here, so that nothing is lost
when a listener is slow, and nothing is kept for one that has gone.
"""

import asyncio
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

Listener = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class Watchers:
    """The listeners of each job; `changed` may be called from any thread."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def watch(self, job: str) -> Iterator[asyncio.Event]:
        """An event of the running loop that is set whenever the job changes."""
        news = asyncio.Event()
        listener = (asyncio.get_running_loop(), news)
        with self._lock:
            self._listeners.setdefault(job, set()).add(listener)
        try:
            yield news
        finally:
            with self._lock:
                self._listeners[job].discard(listener)
                if not self._listeners[job]:
                    del self._listeners[job]

    def listeners(self) -> int:
        """How many watch some job now."""
        with self._lock:
            return sum(map(len, self._listeners.values()))

    def changed(self, jobs: Collection[str]) -> None:
        """Wake the listeners of these jobs."""
        with self._lock:
            listeners = [one for job in jobs for one in self._listeners.get(job, ())]
        for loop, news in listeners:
            loop.call_soon_threadsafe(news.set)
