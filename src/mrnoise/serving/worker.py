"""One thread that does the long work of a server, so that its event loop is free."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any


class Worker:
    """A thread that does one piece of work at a time, in the order in which they are asked for.

    Clients that each wait for a piece before they ask for the next take turns.

    Examples
    --------
    >>> async def both(worker):
    ...     return await asyncio.gather(worker.do(lambda: 1), worker.do(lambda: 2))
    >>> asyncio.run(both(Worker()))
    [1, 2]
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = queue.SimpleQueue()
        # A daemon: whoever stops the server does not wait for a map.
        threading.Thread(target=self._run, daemon=True, name="mapping").start()

    async def do(self, work: Callable[[], Any]) -> Any:
        """What ``work`` returns, or raises."""
        future = asyncio.get_running_loop().create_future()
        self._work.put((work, future))
        return await future

    def _run(self) -> None:
        while True:
            work, future = self._work.get()
            if future.cancelled():
                continue
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:  # who asked gets it
                error = raised
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:  # the loop has ended
                return
            del work, future, result, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
