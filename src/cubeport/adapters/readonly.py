"""The base class of the read-only zarr-python stores in this package."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import ClassVar, NoReturn

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype


class ReadOnlyStore(Store):
    """A read-only store. A subclass implements ``get``, ``exists``, ``__eq__``, and the three list methods if it can list."""

    refusal: ClassVar[str]
    """The message of the PermissionError for any write."""

    __hash__ = None  # type: ignore[assignment]  # as in the base class: stores are compared, but not hashed

    def __init__(self) -> None:
        super().__init__(read_only=True)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, span) for key, span in key_ranges]

    @property
    def supports_writes(self) -> bool:
        return False

    @property
    def supports_deletes(self) -> bool:
        return False

    @property
    def supports_listing(self) -> bool:
        return False

    async def set(self, key: str, value: Buffer) -> None:  # noqa: ARG002  # zarr's signature
        self._refuse()

    async def delete(self, key: str) -> None:  # noqa: ARG002  # zarr's signature
        self._refuse()

    def list(self) -> AsyncIterator[str]:
        self._refuse()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:  # noqa: ARG002  # zarr's signature
        self._refuse()

    def list_dir(self, prefix: str) -> AsyncIterator[str]:  # noqa: ARG002  # zarr's signature
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise PermissionError(self.refusal)


def span_of(request: ByteRequest | None, size: int) -> tuple[int, int]:
    """Return the first byte of a range, and the byte after its last, both within *size*."""
    match request:
        case RangeByteRequest(start=start, end=end):
            first = min(start, size)
            return first, max(min(end, size), first)
        case OffsetByteRequest(offset=offset):
            return min(offset, size), size
        case SuffixByteRequest(suffix=suffix):
            return max(0, size - suffix), size
    return 0, size
