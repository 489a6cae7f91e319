import numpy as np
import pytest
import torch

from dropkit.core.errors import InputError
from dropkit.core.seeds import check_integer, check_seed, draw_seed, seed_tensor


def test_a_seed_is_an_int64_scalar_on_the_cpu():
    seed = draw_seed()
    assert (seed.dtype, seed.shape, seed.device.type) == (torch.int64, (), "cpu")


def test_every_bit_of_a_seed_varies():
    torch.manual_seed(0)
    seeds = [int(draw_seed()) % 2**64 for _ in range(200)]
    assert len(set(seeds)) == 200
    for bit in range(64):  # a fair bit is constant over 200 draws with probability 2^-199
        assert {seed >> bit & 1 for seed in seeds} == {0, 1}


def test_manual_seed_governs():
    torch.manual_seed(3)
    first = draw_seed()
    torch.manual_seed(3)
    assert draw_seed() == first
    assert draw_seed() != first


def test_a_generator_is_used_and_the_global_state_left_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = draw_seed(torch.Generator().manual_seed(5))
    assert torch.equal(state, torch.get_rng_state())
    assert draw_seed(torch.Generator().manual_seed(5)) == first


def test_the_default_device_does_not_matter():
    with torch.device("meta"):
        assert draw_seed().device.type == "cpu"


@pytest.mark.parametrize("good", [0, 2**64 - 1, -(2**63), np.int32(7), np.uint64(2**64 - 1), torch.tensor(-5)])
def test_seeds_are_read_as_their_64_bits(good):
    assert check_seed(good) == int(good) % 2**64
    assert int(seed_tensor(check_seed(good))) % 2**64 == int(good) % 2**64


@pytest.mark.parametrize("bad", [2**64, -(2**63) - 1, 1.0, True, None, "1", torch.tensor(1.0), torch.tensor(True),
                                 torch.tensor([1]), np.array([1, 2])])
def test_other_seeds_are_refused(bad):
    with pytest.raises(InputError, match="a seed is an integer"):
        check_seed(bad)


def test_integers_name_themselves():
    assert check_integer(2**32 - 1, "pass_index", 32) == 2**32 - 1
    for bad in (2**32, -1, 0.5, False):
        with pytest.raises(InputError, match=r"pass_index is an integer in \[0, 2\^32\)"):
            check_integer(bad, "pass_index", 32)
