"""Brush RLE <-> mask, as the editor's ``@thi.ng/rle-pack`` writes it and the SDK's ``mask2rle``.

One big-endian bit stream: 32 bits number of values (4 W H: RGBA, all channels alike, row-major),
5 bits word size - 1, four times 4 bits run-length size - 1 (3, 4, 8, 16), then records of
1 bit kind (1 run, 0 literals), 2 bits size class, the length - 1 in that many bits, and one
8-bit value (run) or as many as the length says (literals).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from maskloop.segment.prompt import Mask

HEADER_BITS = 53
HEADER_TAIL = bytes([0b00111_001, 0b0_0011_011, 0b1_1111_000])
"""The fixed part behind the count: 8-bit words, run sizes 3, 4, 8, 16; the last three bits are free."""

CHANNELS = 4
LONGEST = 1 << 16
FEW_RUNS = 1 << 15
CHUNK = 1 << 18
"""Bytes parsed at a time: the table of record lengths takes eight bytes for each."""


class RleError(ValueError):
    """These bytes are not the mask they should be; the message says why."""


def encode(mask: Mask) -> bytes:
    """The brush RLE of a mask (H x W, not empty), byte for byte what ``mask2rle(mask * 255)`` gives."""
    if mask.ndim != 2 or mask.size == 0:
        raise RleError(f"a mask of shape {mask.shape} cannot be encoded; it must be H x W with at least one pixel")
    values = mask.size * CHANNELS
    if values >= 1 << 32:
        raise RleError(f"a mask of {mask.size} pixels is too large for the format's 32-bit length")
    lengths, values_of = _runs(mask)
    codes, widths = _records(lengths, values_of)
    return _pack(codes, widths, values)


def decode(data: bytes | Sequence[int], size: tuple[int, int], max_pixels: int = 100_000_000) -> NDArray[np.uint8]:
    """The alpha channel (H x W, 0 to 255) of a brush RLE.

    Args:
        data: the bytes, as ``bytes`` or as Label Studio's list of numbers.
        size: (height, width) that the mask must have.
        max_pixels: refuse larger masks.

    Raises:
        RleError: if the bytes are truncated, of another word size or of another image size.
            Nothing is allocated before the sizes agree.
    """
    ends, values = _pixels(data, size, max_pixels)
    return _fill(ends, values, size[0] * size[1]).reshape(size)


def decode_mask(data: bytes | Sequence[int], size: tuple[int, int], max_pixels: int = 100_000_000) -> Mask:
    """The mask (H x W) of a brush RLE: alpha of at least half.

    Strokes of the manual brush leave anti-aliased edges of every alpha. Raises RleError like :func:`decode`.
    """
    ends, values = _pixels(data, size, max_pixels)
    mask: Mask = _fill(ends, (values >= 128).astype(np.uint8), size[0] * size[1]).reshape(size).view(bool)
    return mask


def _pixels(
    data: bytes | Sequence[int], size: tuple[int, int], max_pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Runs of the alpha channel: the pixel before which each ends, and its alpha."""
    height, width = size
    if height < 1 or width < 1 or height * width > max_pixels:
        raise RleError(f"a mask of {width} x {height} pixels is not between 1 and {max_pixels} pixels")
    raw = _as_bytes(data)
    if len(raw) * 8 < HEADER_BITS:
        raise RleError(f"{len(raw)} bytes are too short for a brush RLE")
    count = int.from_bytes(raw[:4], "big")
    if raw[4:6] != HEADER_TAIL[:2] or raw[6] & 0b11111000 != HEADER_TAIL[2]:
        raise RleError("not a brush RLE of 8-bit words with run sizes 3, 4, 8 and 16")
    if count != CHANNELS * height * width:
        raise RleError(
            f"the RLE holds {count} values, an image of {width} x {height} needs {CHANNELS * height * width}"
        )
    lengths, values = _parse(raw)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    if total != count:
        raise RleError(f"{'truncated' if total < count else 'too long'}: {total} values where {count} were announced")
    return ends // CHANNELS, values


def _as_bytes(data: bytes | Sequence[int]) -> bytes:
    if isinstance(data, bytes):
        return data
    try:
        return bytes(data)
    except (TypeError, ValueError) as error:
        raise RleError(f"a brush RLE is a list of numbers from 0 to 255: {error}") from None


def _runs(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Lengths (in values) and values of the runs, those too long for one record split."""
    flat = np.ascontiguousarray(mask, dtype=bool).reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.empty(len(edges) + 2, np.int64)
    bounds[0], bounds[1:-1], bounds[-1] = 0, edges, flat.size
    lengths = np.diff(bounds) * CHANNELS
    values = np.empty(len(lengths), bool)
    values[0::2], values[1::2] = flat[0], not flat[0]
    if lengths.max() <= LONGEST:
        return lengths, values
    pieces = -(-lengths // LONGEST)
    last = np.cumsum(pieces) - 1
    split = np.full(int(last[-1]) + 1, LONGEST, np.int64)
    split[last] = lengths - (pieces - 1) * LONGEST
    # The rest of a split run stays in the 16-bit class, however short: marked by a negative length.
    split[last[pieces > 1]] *= -1
    return split, np.repeat(values, pieces)


def _records(lengths: NDArray[np.int64], values: NDArray[np.bool_]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Each run as one number and how many bits it takes."""
    forced = lengths < 0
    lengths = np.abs(lengths)
    size_class = (lengths > 8).astype(np.int64) + (lengths > 16) + (lengths > 256)
    size_class[forced] = 3
    bits = np.array([3, 4, 8, 16])[size_class]
    codes = ((4 + size_class) << bits) | (lengths - 1)
    codes = (codes << 8) | np.where(values, 255, 0)
    return codes.astype(np.uint64), bits + 11


def _pack(codes: NDArray[np.uint64], widths: NDArray[np.int64], values: int) -> bytes:
    """Header and records as one bit stream, padded with 1 to 8 zero bits like ``mask2rle`` does."""
    ends = np.cumsum(widths) + HEADER_BITS
    starts = ends - widths
    total_bits = int(ends[-1])
    words = np.zeros(total_bits // 32 + 2, np.uint64)
    word = starts >> 5
    shifted = codes << (64 - widths - (starts & 31)).astype(np.uint64)
    # A record takes at most 27 bits, so it lies in one word or in two neighbours.
    first = np.flatnonzero(np.r_[True, word[1:] != word[:-1]])
    words[word[first]] = np.bitwise_or.reduceat(shifted >> np.uint64(32), first)
    words[word[first] + 1] |= np.bitwise_or.reduceat(shifted & np.uint64(0xFFFFFFFF), first)
    stream = bytearray(words.astype(">u4").tobytes()[: total_bits // 8 + 1])
    stream[:4] = values.to_bytes(4, "big")
    stream[4:6] = HEADER_TAIL[:2]
    stream[6] |= HEADER_TAIL[2]
    return bytes(stream)


@cache
def _steps() -> NDArray[np.uint64]:
    """For every 16 bits of the stream: the length of a record that starts at each of the first 8 bits.

    Eight bytes in one word; 0 where 16 bits cannot say (literals of the 8 and 16 bit classes).
    """
    window = np.arange(128, dtype=np.int64)
    size_class, run = (window >> 4) & 3, window >> 6 == 1
    short, long = (window >> 1) & 7, window & 15
    literal = np.select([size_class == 0, size_class == 1], [6 + 8 * (short + 1), 7 + 8 * (long + 1)], 0)
    step = np.where(run, 11 + np.array([3, 4, 8, 16])[size_class], literal).astype(np.uint8)
    pairs = np.arange(1 << 16)
    table = np.stack([step[(pairs >> (9 - bit)) & 127] for bit in range(8)], axis=1)
    return np.ascontiguousarray(table).view(np.uint64).reshape(-1)


def _parse(raw: bytes) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Lengths and values of all whole records; a literal counts as runs of one."""
    stream = np.frombuffer(raw + bytes(8), np.uint8)
    lengths: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    values: list[NDArray[np.uint8]] = [np.zeros(0, np.uint8)]
    position, bits = HEADER_BITS, len(raw) * 8
    while position < bits:
        base = position >> 3
        block = stream[base : base + CHUNK + 1].astype(np.uint16)
        step = _steps()[(block[:-1] << 8) | block[1:]].tobytes()
        positions: list[int] = []
        here, stop = position - base * 8, min(len(step), bits - base * 8)
        while here < stop:
            positions.append(here)
            width = step[here]
            here += width or _long_literals(raw, base * 8 + here)
        position = base * 8 + here
        if position > bits:
            positions.pop()
        found = np.array(positions, np.int64) + base * 8
        more_lengths, more_values = _read(stream, found)
        lengths.append(more_lengths)
        values.append(more_values)
    return np.concatenate(lengths), np.concatenate(values)


def _long_literals(raw: bytes, position: int) -> int:
    """Bits of a literal record whose length takes 8 or 16 bits."""
    word = int.from_bytes(raw[position >> 3 : (position >> 3) + 4].ljust(4, b"\0"), "big")
    word = (word << (position & 7)) & 0xFFFFFFFF
    bits = 8 if (word >> 29) & 3 == 2 else 16
    return 3 + bits + 8 * (((word >> (29 - bits)) & ((1 << bits) - 1)) + 1)


def _peek(stream: NDArray[np.uint8], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The 32 bits at each bit position."""
    at = positions >> 3
    word = np.zeros(len(at), np.int64)
    for offset in range(5):
        word = (word << 8) | stream[at + offset]
    return (word >> (8 - (positions & 7))) & 0xFFFFFFFF


def _read(stream: NDArray[np.uint8], positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Lengths and values of the records at these bit positions."""
    word = _peek(stream, positions)
    bits = np.array([3, 4, 8, 16])[(word >> 29) & 3]
    lengths = ((word >> (29 - bits)) & ((1 << bits) - 1)) + 1
    values = ((word >> (21 - bits)) & 255).astype(np.uint8)
    literal = word >> 31 == 0
    if not literal.any():
        return lengths, values
    repeats = np.where(literal, lengths, 1)
    first = np.cumsum(repeats) - repeats
    nth = np.arange(int(repeats.sum())) - np.repeat(first, repeats)
    where = np.repeat(positions + 3 + bits, repeats) + 8 * nth
    return np.where(np.repeat(literal, repeats), 1, np.repeat(lengths, repeats)), (_peek(stream, where) >> 24).astype(
        np.uint8
    )


def _fill(ends: NDArray[np.int64], values: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """Pixels from runs that end before pixel ``ends[i]``: the alpha of pixel p is value 4 p + 3."""
    if len(ends) > FEW_RUNS:
        return np.repeat(values, np.diff(ends, prepend=0))[:pixels]
    alpha = np.zeros(pixels, np.uint8)
    visible = np.flatnonzero(values)
    starts = np.concatenate(([0], ends))[visible]
    for start, end, value in zip(starts.tolist(), ends[visible].tolist(), values[visible].tolist(), strict=True):
        alpha[start:end] = value
    return alpha
