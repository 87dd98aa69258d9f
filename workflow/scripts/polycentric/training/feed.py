"""Batches for the training loop: the next one prepared meanwhile, the state exact."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """Calls `draw` for each batch, in a thread and one batch ahead if `ahead`.

    A batch that is drawn ahead moves the random streams on. So the state of the streams is noted before each batch is
    drawn, and `state` is that before the next batch to be handed out: a resumed training draws the same one.
    """

    def __init__(
        self, draw: Callable[[], T], state: Callable[[], Any], restore: Callable[[Any], None], *, ahead: bool
    ) -> None:
        self._draw, self._state, self._restore, self.ahead = draw, state, restore, ahead
        self._before: Any = None
        self._pending: Future[T] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="patches") if ahead else None

    def next(self) -> T:
        if self._pool is None:
            return self._draw()
        batch = (self._pending or self._begin()).result()
        self._begin()
        return batch

    def state(self) -> Any:
        """State of the random streams before the next batch (JSON)."""
        if self._pending is None:
            return self._state()
        return self._before

    def restore(self, state: Any) -> None:
        """Forget what was drawn ahead and go on from a state."""
        if self._pending is not None:
            self._pending.exception()  # the thread must not touch the streams any more
            self._pending = None
        self._restore(state)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _begin(self) -> Future[T]:
        assert self._pool is not None
        self._before = self._state()
        self._pending = self._pool.submit(self._draw)
        return self._pending
