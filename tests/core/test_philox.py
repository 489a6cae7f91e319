import pytest

from dropkit.core.philox import counter_words, derive_seed, key_words, philox4x32

KNOWN = [  # Random123, tests/kat_vectors, lines "philox4x32 10": counter, key, answer
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    assert philox4x32(words(counter), words(key)) == words(answer)


def test_seed_words_are_low_then_high():
    assert key_words(0x0123456789ABCDEF) == (0x89ABCDEF, 0x01234567)


def test_counter_packs_stream_and_purpose():
    assert counter_words(0x1_0000_0002, 0xABC_0000_0001, 15) == (2, 1, 1, 0xF0000ABC)
    assert counter_words(0, 2**60 - 1, 0)[3] >> 28 == 0  # the largest stream leaves the purpose alone


def test_derivation_is_the_documented_block():
    answer = philox4x32((5, 1, 3, 15 << 28), (7, 0))
    assert derive_seed(7, step=2**32 + 5, pass_index=3) == answer[0] | answer[1] << 32


def test_derived_seeds_differ():
    seeds = {derive_seed(seed, step, turn) for seed in range(5) for step in range(20) for turn in range(5)}
    assert len(seeds) == 500
