"""How `partition` splits, and what `standardise` promises."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dropkit.core.errors import InputError
from dropkit.study.data import load
from dropkit.study.partition import partition, standardise

from .alike import same

N = 12
X, LABELS = torch.arange(N * 3.0).reshape(N, 3), torch.arange(N) % 3


def shares(data, part):
    return [len(y) / len(data.y_train) for y in (part.y_train, part.y_val, part.y_test)]


class TestPartition:
    def test_every_example_lands_in_one_part(self):
        n = 101
        data = load((torch.arange(n, dtype=torch.float32), torch.arange(n, dtype=torch.float32)))
        part = partition(data, 3)
        assert torch.cat([part.x_train, part.x_val, part.x_test]).flatten().sort().values.tolist() == list(range(n))
        assert [len(part.y_train), len(part.y_val), len(part.y_test)] == [61, 20, 20]
        for x, y in ((part.x_train, part.y_train), (part.x_val, part.y_val), (part.x_test, part.y_test)):
            assert torch.equal(x, y)

    def test_depends_on_the_seed_alone(self):
        data = load("iris")
        torch.manual_seed(0)
        one = partition(data, 5)
        torch.manual_seed(1)
        state = torch.random.get_rng_state()
        assert same(one, partition(data, 5))
        assert torch.equal(torch.random.get_rng_state(), state)
        assert not same(one, partition(data, 6))
        assert same(partition(data, 2**63 - 1), partition(data, 2**63 - 1))

    def test_is_pinned(self):
        """The split of a seed is part of a study's numbers: it may not move between versions or machines."""
        data = load((torch.arange(12.0), torch.arange(12) % 3))
        part = partition(data, 0)
        assert part.x_train.flatten().tolist() == [8, 0, 7, 5, 9, 4, 2, 3]
        assert part.x_val.flatten().tolist() == [10, 11]
        assert part.x_test.flatten().tolist() == [6, 1]

    @given(st.lists(st.integers(3, 40), min_size=2, max_size=6), st.integers(0, 2**32))
    def test_stratified(self, sizes, seed):
        labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        if len(labels) < 10:
            return
        part = partition(load((torch.zeros(len(labels), 1), labels)), seed)
        for y, share in zip((part.y_train, part.y_val, part.y_test), (0.6, 0.2, 0.2), strict=True):
            counts = torch.bincount(y, minlength=len(sizes))
            # Systematic sampling puts a class within one of its share; the parts' rounded sizes move the cuts a little.
            assert (counts - share * torch.tensor(sizes)).abs().max() < 2.5
        assert torch.bincount(torch.cat([part.y_train, part.y_val, part.y_test])).tolist() == sizes

    def test_equal_classes_are_split_equally(self):
        labels = torch.arange(100) % 4
        part = partition(load((torch.zeros(100, 1), labels)), 1)
        assert [torch.bincount(y).tolist() for y in (part.y_train, part.y_val, part.y_test)] == [[15] * 4, [5] * 4, [5] * 4]

    def test_members_of_a_class_are_drawn_evenly(self):
        """Each example lands in the test part in one study of five: 400 seeds, 4.5 binomial standard deviations (7e-6)."""
        data = load((torch.arange(40.0), torch.arange(40) % 2))
        hits = torch.zeros(40)
        for seed in range(400):
            hits[partition(data, seed).x_test.flatten().long()] += 1
        assert (hits / 400 - 0.2).abs().max() < 4.5 * (0.2 * 0.8 / 400) ** 0.5

    def test_given_parts_stay(self):
        whole = {"train": (X, LABELS), "val": (X[:2], LABELS[:2]), "test": (X[3:6], LABELS[3:6])}
        for missing in ((), ("val",), ("test",), ("val", "test")):
            data = load({part: pair for part, pair in whole.items() if part not in missing})
            part = partition(data, 0)
            for name in {"val", "test"} - set(missing):
                assert torch.equal(getattr(part, f"x_{name}"), whole[name][0])
                assert torch.equal(getattr(part, f"y_{name}"), whole[name][1])
            # 3 of 12 where one part is split off (.2 / .8), 2 and 2 where both are.
            assert len(part.x_train) == {0: 12, 1: 9, 2: 8}[len(missing)]
        assert torch.equal(partition(load(whole), 0).x_train, X)

    def test_other_fractions(self):
        part = partition(load((torch.zeros(100, 1), torch.arange(100) % 2)), 0, (0.8, 0.1, 0.1))
        assert [len(part.y_train), len(part.y_val), len(part.y_test)] == [80, 10, 10]

    @pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.6, 0.2, 0.3), (1.0, 0.0, 0.0), (0.8, 0.4, -0.2)])
    def test_refuses_fractions(self, fractions):
        with pytest.raises(InputError, match="three shares"):
            partition(load((X, LABELS)), 0, fractions)

    def test_refuses_too_few(self):
        data = load({"train": (X[:1], LABELS[1:2]), "test": (X, LABELS)})
        with pytest.raises(InputError, match="suffices"):
            partition(data, 0)


class TestStandardise:
    def test_features_by_the_training_part(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(200, 4, generator=generator) * torch.tensor([1.0, 1e3, 1e-3, 5.0]) + torch.tensor([0.0, 5e3, 1.0, -3.0])
        before = partition(load((x, torch.arange(200) % 2)), 0)
        after = standardise(before, "classification")
        assert after.x_train.dtype == torch.float32
        assert after.x_train.double().mean(0).abs().max() < 1e-5
        assert (after.x_train.double().std(0, correction=0) - 1).abs().max() < 1e-5
        mean = before.x_train.double().mean(0)
        std = before.x_train.double().std(0, correction=0)
        for name in ("x_train", "x_val", "x_test"):
            expected = (getattr(before, name).double() - mean) / std
            assert torch.allclose(getattr(after, name).double(), expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(after.y_train, before.y_train)
        assert after.y_mean is after.y_std is None

    def test_does_not_look_at_the_other_parts(self):
        part = partition(load("iris"), 0)
        other = replace(part, x_test=part.x_test + 100, x_val=part.x_val * 3)
        assert torch.equal(standardise(part, "classification").x_train, standardise(other, "classification").x_train)

    @pytest.mark.parametrize("shape", [(50, 4, 4), (50, 3, 4, 4)])
    def test_images_by_one_number(self, shape):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 255
        part = standardise(partition(load((x, torch.arange(50) % 2)), 0), "classification")
        assert abs(float(part.x_train.double().mean())) < 1e-6
        assert abs(float(part.x_train.double().std(correction=0)) - 1) < 1e-6
        assert part.x_train.double().mean(0).abs().max() > 1e-3  # pixels keep their own means

    @pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -3.3])
    def test_constant_features_become_zero(self, value):
        x = torch.cat([X, torch.full((N, 1), value)], 1)
        part = partition(load((x, LABELS)), 0)
        part = standardise(replace(part, x_test=part.x_test + 1), "classification")
        assert (part.x_train[:, 3] == 0).all()
        assert (part.x_test[:, 3] == 0).all()
        assert part.x_train.isfinite().all()

    def test_constant_images_become_zero(self):
        part = standardise(partition(load((torch.full((N, 2, 2), 0.3), LABELS)), 0), "classification")
        assert (part.x_train == 0).all()

    def test_token_ids_stay(self):
        part = partition(load((X.long(), LABELS)), 0)
        assert same(part, standardise(part, "classification"))

    def test_targets_of_a_regression(self):
        before = partition(load((X, torch.stack([X[:, 0] * 10 + 500, X[:, 1] / 7], 1))), 0)
        after = standardise(before, "regression")
        assert after.y_mean.shape == after.y_std.shape == (2,)
        assert after.y_train.double().mean(0).abs().max() < 1e-6
        for name in ("y_train", "y_val", "y_test"):
            scaled, original = getattr(after, name), getattr(before, name)
            assert not torch.allclose(scaled, original)
            assert torch.allclose(after.unscale(scaled), original, rtol=1e-6)
            assert after.unscale(scaled).dtype == torch.float32

    def test_constant_targets_go_back_exactly(self):
        before = partition(load({"train": (X, torch.full((N,), 0.1)), "test": (X[:2], torch.tensor([0.1, 7.0]))}), 0)
        after = standardise(before, "regression")
        assert (after.y_train == 0).all()
        assert torch.equal(after.unscale(after.y_train), before.y_train)
        assert torch.allclose(after.unscale(after.y_test), before.y_test)

    def test_nothing_to_unscale(self):
        part = partition(load("iris"), 0)
        outputs = torch.randn(3, 3)
        assert part.unscale(outputs) is outputs

    def test_numbers_do_not_depend_on_the_number_of_threads(self):
        x = torch.randn(5000, 40, generator=torch.Generator().manual_seed(2))
        part = partition(load((x, x[:, 0])), 0)
        threads, found = torch.get_num_threads(), []
        try:
            for n in (1, 2, 3):
                torch.set_num_threads(n)
                found.append(standardise(part, "regression"))
        finally:
            torch.set_num_threads(threads)
        assert same(found[0], found[1])
        assert same(found[0], found[2])
