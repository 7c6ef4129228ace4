"""Host staging: copy a worker's state into host buffers, from which it is written while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import torch
from torch import Tensor

from espalier.checkpoint.fragments import Fragment, split

_CHUNK_BYTES = 2**30  # a power of two, as torch rounds pinned memory up to one


class HostStaging:
    """Host buffers for this worker's part of the state, reused for every save; pinned if the state is on a GPU.

    On a GPU the copies run on a separate stream, in parallel with the forward and backward of the next step; only its
    update has to wait for them.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._chunks: list[Tensor] = []
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._done: torch.cuda.Event | None = None
        self._preparation: threading.Thread | None = None

    def prepare(self, fragments: Iterable[Fragment]) -> None:
        """Start allocating buffers for fragments like these in a thread, as pinning gigabytes takes seconds."""
        if self._stream is not None and self._preparation is None:
            num_bytes = sum(map(_room, _parts(fragments)))
            self._preparation = threading.Thread(target=_make_room, args=(self._chunks, num_bytes), daemon=True)
            self._preparation.start()

    def take(self, fragments: Iterable[Fragment]) -> list[Fragment]:
        """Copy fragments to the host, in parts of at most a chunk; on a GPU the copies are complete after `wait`.

        Overwrites the copies of the last call.
        """
        if self._stream is None:
            return self._copy(fragments)
        if self._preparation is not None:
            self._preparation.join()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            copies = self._copy(fragments)
            self._done = self._stream.record_event()
        return copies

    def hold_update(self) -> None:
        """Make later work on the GPU wait for the copies; does not block the process."""
        if self._done is not None:
            torch.cuda.current_stream(self._device).wait_event(self._done)

    def wait(self) -> None:
        """Block until the copies are complete; for the thread that writes them."""
        if self._done is not None:
            self._done.synchronize()

    def _copy(self, fragments: Iterable[Fragment]) -> list[Fragment]:
        parts = _parts(fragments)
        allocator = _Allocator(self._chunks, num_bytes=sum(map(_room, parts)), pinned=self._stream is not None)
        copies = []
        for part in parts:
            room = allocator.next(_room(part))[: part.num_bytes].view(part.values.dtype)
            room.copy_(part.values, non_blocking=True)
            copies.append(Fragment(part.slot, part.name, part.offset, room))
        return copies


class _Allocator:
    """Allocates parts of reusable chunks one after another, and adds chunks as needed."""

    def __init__(self, chunks: list[Tensor], *, num_bytes: int, pinned: bool) -> None:
        self._chunks, self._pinned = chunks, pinned
        self._size = _chunk_bytes(num_bytes)
        self._chunk, self._used = 0, 0

    def next(self, num_bytes: int) -> Tensor:
        # Chunk sizes may differ: the first save may have had no moments, and so smaller chunks.
        while self._chunk < len(self._chunks) and self._used + num_bytes > self._chunks[self._chunk].numel():
            self._chunk, self._used = self._chunk + 1, 0
        if self._chunk == len(self._chunks):
            self._chunks.append(_chunk(self._size, pinned=self._pinned))
        start = self._used
        self._used += num_bytes
        return self._chunks[self._chunk][start : start + num_bytes]


def _make_room(chunks: list[Tensor], num_bytes: int) -> None:
    size = _chunk_bytes(num_bytes)
    for _ in range(-(-num_bytes // size)):
        chunks.append(_chunk(size, pinned=True))


def _chunk(num_bytes: int, *, pinned: bool) -> Tensor:
    return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=pinned)


def _chunk_bytes(num_bytes: int) -> int:
    return min(_CHUNK_BYTES, 2 ** max(num_bytes - 1, 1).bit_length())


def _parts(fragments: Iterable[Fragment]) -> list[Fragment]:
    return [part for fragment in fragments for part in split(fragment, max_bytes=_CHUNK_BYTES)]


def _room(fragment: Fragment) -> int:
    """Bytes of a fragment, rounded up to a multiple of 8, so that the next one is aligned for any dtype."""
    return -(-fragment.num_bytes // 8) * 8
