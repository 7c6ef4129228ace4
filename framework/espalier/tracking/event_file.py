"""The records of TensorBoard's event files, written without its library, which would load torch or TensorFlow.

A record is a length, its checksum, an `Event` message and its checksum (TFRecord). Of the message only what scalars
need is written. Format: tensorflow/core/util/event.proto and framework/summary.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY, _SESSION_LOG = 1, 2, 3, 5, 7  # fields of Event
_VALUE, _TAG, _SIMPLE_VALUE = 1, 1, 2  # of Summary, and twice of Summary.Value
_STATUS, _START = 1, 1  # of SessionLog, and its first value
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types


def header(*, time: float) -> bytes:
    """The records that an event file begins with; a reader that has seen an earlier file of the run forgets it."""
    version = _double(_WALL_TIME, time) + _text(_FILE_VERSION, b"brain.Event:2")
    return _record(version) + _record(_double(_WALL_TIME, time) + _text(_SESSION_LOG, _number(_STATUS, _START)))


def scalars(values: Mapping[str, float], *, step: int, time: float) -> bytes:
    """One record with the values of a step, float32; a crash leaves all of them or none.

    Args:
        values: tag -> value.
        time: unix seconds.
    """
    summary = b"".join(_text(_VALUE, _text(_TAG, tag.encode()) + _float(value)) for tag, value in values.items())
    return _record(_double(_WALL_TIME, time) + _number(_STEP, step) + _text(_SUMMARY, summary))


def _record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + _checksum(length) + message + _checksum(message)


def _text(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | _EIGHT) + struct.pack("<d", value)


def _float(value: float) -> bytes:
    most = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
    near = value if value != value or abs(value) == float("inf") else max(-most, min(most, value))
    return _varint(_SIMPLE_VALUE << 3 | _FOUR) + struct.pack("<f", near)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _checksum(content: bytes) -> bytes:
    """CRC-32C, rotated and offset as TFRecord asks."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = tuple(map(_entry, range(256)))
