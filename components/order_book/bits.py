"""Which places of a window are taken: a bit each, and a bit for each word of 64 that has any."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from components.order_book.compiled import compiled

WORD = 64
ONE = np.uint64(1)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@intrinsic
def _leading_zeros(_, word):
    """Zeros before the first bit of a word that is not 0."""

    def code(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), code


@intrinsic
def _trailing_zeros(_, word):
    """Zeros after the last bit of a word that is not 0."""

    def code(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), code


def n_words(places: int) -> int:
    """Words that so many places need, with those that tell where to look; `places` is a multiple of 4,096."""
    return places // WORD + places // WORD**2


@compiled
def mark(words, places, place, taken):
    """Mark a place as taken or free; without branches that nobody could foresee."""
    word, bit = np.uint64(place) >> np.uint64(6), np.uint64(place) & np.uint64(63)
    before = words[word]
    after = (before & ~(ONE << bit)) | (np.uint64(taken) << bit)
    words[word] = after
    if (before == 0) != (after == 0):
        above = np.uint64(places >> 6) + (word >> np.uint64(6))
        words[above] ^= ONE << (word & np.uint64(63))


@compiled
def set_bit(words, places, place):
    """Mark a place as taken."""
    word = place >> 6
    words[word] |= ONE << np.uint64(place & 63)
    words[(places >> 6) + (word >> 6)] |= ONE << np.uint64(word & 63)


@compiled
def clear_bit(words, places, place):
    """Mark a place as free."""
    word = place >> 6
    words[word] &= ~(ONE << np.uint64(place & 63))
    if words[word] == 0:
        words[(places >> 6) + (word >> 6)] &= ~(ONE << np.uint64(word & 63))


@compiled
def _last_before(words, start, stop):
    """The last bit of words `start` on that stands before bit `stop`, counted from `start`; -1 for none."""
    word = stop >> 6
    found = words[start + word] & ~(ALL << np.uint64(stop & 63)) if stop & 63 else np.uint64(0)
    while found == 0 and word > 0:
        word -= 1
        found = words[start + word]
    return (word << 6) + 63 - _leading_zeros(found) if found else np.int64(-1)


@compiled
def last_before(words, places, place):
    """The last taken place before `place`, -1 for none."""
    word = place >> 6
    within = place & 63
    if within:
        found = words[word] & ~(ALL << np.uint64(within))
        if found:
            return (word << 6) + 63 - _leading_zeros(found)
    word = _last_before(words, places >> 6, word)
    return (word << 6) + 63 - _leading_zeros(words[word]) if word >= 0 else np.int64(-1)


@compiled
def first_from(words, places, place):
    """The first taken place from `place` on, -1 for none."""
    word = place >> 6
    n = places >> 6
    if word < n:
        found = words[word] & (ALL << np.uint64(place & 63))
        while found == 0 and word + 1 < n:
            word += 1
            found = words[word]
        if found:
            return (word << 6) + _trailing_zeros(found)
    return np.int64(-1)
