"""How often something may be done, by a clock that does not jump."""

import threading
import time
from collections import deque


class MovingWindow:
    """No more than so many in any minute; safe to use from any thread.

    Args:
        most: how many.
    """

    SECONDS = 60.0

    def __init__(self, most: int) -> None:
        self.most = most
        self._times: deque[float] = deque(maxlen=most)
        self._lock = threading.Lock()

    def take(self) -> float:
        """Count one more and give 0; else the seconds until there is room for it."""
        with self._lock:
            now = time.monotonic()
            if len(self._times) == self.most and now - self._times[0] < self.SECONDS:
                return self.SECONDS - (now - self._times[0])
            self._times.append(now)
            return 0.0
