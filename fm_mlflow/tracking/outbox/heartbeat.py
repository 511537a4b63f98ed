"""The thread that shows that a run lives, and looks whether another process has taken it over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from fm_mlflow.tracking.outbox.remote_run import LeaseLostError

_log = logging.getLogger(__name__)

SECONDS = 20.0
"""From one heartbeat to the next."""


class Heartbeat:
    """Calls a function every few seconds, on a thread of its own: uploads may take minutes.

    Args:
        beat: Tells the store that the run lives; raises what the store does.
        is_lost: Called once, when the run belongs to another process; then it beats no more.
    """

    def __init__(self, beat: Callable[[], None], is_lost: Callable[[LeaseLostError], None]) -> None:
        self._beat = beat
        self._is_lost = is_lost
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fm_mlflow-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more; one that is in flight for more than a second may still arrive."""
        self._stopping.set()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._stopping.wait(SECONDS):
            try:
                self._beat()
            except LeaseLostError as error:
                self._is_lost(error)
                return
            except Exception as error:  # the courier says so, and the next one may arrive
                _log.debug("no heartbeat: %s", error)
