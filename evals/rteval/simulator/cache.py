"""A cache that is bounded by the bytes it holds, not by the number of things."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["ByteCache"]

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Keeps what was used last, as long as all of it fits into ``limit`` bytes.

    Args:
        limit: bytes that may be held.
        size: how many bytes a value weighs.
    """

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        self._limit = limit
        self._size = size
        self._held = 0
        self._values: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of ``key``, made when it is not held; one that is larger than the limit is made but not kept."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = make()
        size = self._size(value)
        if size <= self._limit:
            self._values[key] = value
            self._held += size
            while self._held > self._limit:
                self._held -= self._size(self._values.popitem(last=False)[1])
        return value

    def __len__(self) -> int:
        """How many values are held."""
        return len(self._values)
