"""Philox4x32-10 on plain integers: derives seeds, and is an oracle for the tensor kernels."""

from __future__ import annotations

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
BUMPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD = 0xFFFFFFFF

MASK_BYTES, TIE_BREAK, NOISE, DERIVE_SEED = 0, 1, 2, 15
"""Purposes of a block: they occupy the top four bits of counter word 3, so that no two uses share a counter."""

Words = tuple[int, int, int, int]


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Four random 32-bit words for one counter.

    Each of ten rounds takes ``(c0, c1, c2, c3)`` to ``(hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0))``,
    where ``hi`` and ``lo`` are the halves of a 64-bit product; after a round the key words grow by the Weyl constants.

    Args:
        counter: four words in [0, 2^32).
        key: two words in [0, 2^32).

    Returns:
        Four words in [0, 2^32).

    Example:
        >>> [f"{word:08x}" for word in philox4x32((0, 0, 0, 0), (0, 0))]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']

    References:
        Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        low, high = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (high >> 32) ^ c1 ^ k0, high & WORD, (low >> 32) ^ c3 ^ k1, low & WORD
        k0, k1 = (k0 + BUMPS[0]) & WORD, (k1 + BUMPS[1]) & WORD
    return c0, c1, c2, c3


def key_words(seed: int) -> tuple[int, int]:
    """The Philox key of a 64-bit seed: its low and high 32 bits.

    Args:
        seed: any integer; its low 64 bits count, so that signed and unsigned readings of a seed agree.

    Example:
        >>> key_words(-1) == key_words(2**64 - 1) == (0xFFFFFFFF, 0xFFFFFFFF)
        True
    """
    return seed & WORD, (seed >> 32) & WORD


def counter_words(index: int, stream: int, purpose: int) -> Words:
    """The Philox counter of a 64-bit index in a stream.

    Args:
        index: in [0, 2^64).
        stream: in [0, 2^60).
        purpose: in [0, 16).

    Example:
        >>> counter_words(2**32 + 5, stream=7, purpose=1)
        (5, 1, 7, 268435456)
    """
    return index & WORD, index >> 32, stream & WORD, (stream >> 32) | (purpose << 28)


def derive_seed(seed: int, step: int, pass_index: int) -> int:
    """The seed that every site uses in one pass of one step of a keyed run.

    Args:
        seed: in [0, 2^64).
        step: in [0, 2^64).
        pass_index: in [0, 2^32).

    Returns:
        A seed in [0, 2^64).

    Example:
        >>> derive_seed(0, step=0, pass_index=0) != derive_seed(0, step=0, pass_index=1)
        True
    """
    words = philox4x32((step & WORD, step >> 32, pass_index, DERIVE_SEED << 28), key_words(seed))
    return words[0] | words[1] << 32
