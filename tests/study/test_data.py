"""What `load` accepts and refuses, how `partition` splits, and what `standardise` promises."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from dropkit.core.errors import InputError
from dropkit.study.data import Data, load, partition, standardise

N = 12
X, LABELS = torch.arange(N * 3.0).reshape(N, 3), torch.arange(N) % 3


class Pairs(Dataset):
    """A map-style Dataset over any list of items."""

    def __init__(self, items):
        self.items, self.reads = items, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.reads += 1
        return self.items[index]


def tensors(data):
    held = {field.name: getattr(data, field.name) for field in fields(data)}
    return {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}


def same(one, other):
    one, other = tensors(one), tensors(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestSources:
    @pytest.mark.parametrize("source", [
        (X, LABELS), [X.numpy(), LABELS.numpy()], {"train": (X, LABELS)}, TensorDataset(X, LABELS),
        Pairs([(x, int(y)) for x, y in zip(X, LABELS, strict=True)]),
        Pairs([[x.numpy(), y] for x, y in zip(X, LABELS, strict=True)]),
        {"train": TensorDataset(X, LABELS)}, (X.tolist(), LABELS.tolist()), (X.double(), LABELS[:, None]),
        (X.clone().requires_grad_(), LABELS.to(torch.uint8)), (X.bfloat16(), LABELS)])
    def test_all_say_the_same(self, source):
        data = load(source)
        assert (data.task, data.classes, data.name) == ("classification", ("0", "1", "2"), "data in memory")
        assert data.x_train.dtype == torch.float32
        assert data.y_train.dtype == torch.int64
        assert torch.equal(data.x_train, X)
        assert torch.equal(data.y_train, LABELS)
        assert data.x_val is data.y_val is data.x_test is data.y_test is None
        assert data.digest == load((X, LABELS)).digest

    def test_parts_of_a_dictionary(self):
        data = load({"test": TensorDataset(X[:2], LABELS[:2]), "train": (X, LABELS), "val": (X[:1], LABELS[2:3])})
        assert torch.equal(data.x_test, X[:2])
        assert torch.equal(data.y_val, LABELS[2:3])

    def test_embedded_and_files(self, tmp_path):
        iris = load("iris")
        assert (iris.name, iris.task, iris.classes) == ("iris", "classification", ("setosa", "versicolor", "virginica"))
        diabetes = load("diabetes")
        assert (diabetes.task, diabetes.classes, diabetes.y_train.shape) == ("regression", None, (442, 1))
        path = tmp_path / "table.csv"
        path.write_text("a,y\n" + "".join(f"{row},{'no' if row % 2 else 'yes'}\n" for row in range(10)))
        assert load(path).classes == ("no", "yes")
        np.savez(tmp_path / "set.npz", x=X.numpy(), y=LABELS.numpy())
        assert load(tmp_path / "set.npz").digest == load((X, LABELS)).digest

    def test_csv_whole_numbers_are_measurements(self, tmp_path):
        path = tmp_path / "table.csv"
        path.write_text("a,y\n" + "".join(f"{row},{row % 2}\n" for row in range(10)))
        assert load(path).x_train.dtype == torch.float32

    def test_loaded_data_passes_through(self):
        data = load((X, LABELS))
        assert load(data) is data

    def test_later_changes_of_the_source_do_not_reach_the_data(self):
        x, y = X.clone(), LABELS.clone()
        data = load((x, y))
        x.zero_()
        y.zero_()
        assert torch.equal(data.x_train, X)
        assert torch.equal(data.y_train, LABELS)

    def test_a_dataset_is_read_once(self):
        source = Pairs([(x, y) for x, y in zip(X, LABELS, strict=True)])
        load(source)
        assert source.reads == N

    @pytest.mark.parametrize("x", [X.numpy()[::-1], np.asfortranarray(X.numpy()), X.numpy().astype(">f8"), X.numpy()[:, ::-1]])
    def test_any_layout(self, x):
        assert torch.equal(load((x, LABELS)).x_train, torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)))


class TestTypes:
    @pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.int16])
    def test_token_ids_stay_whole(self, kind):
        data = load((X.to(kind), LABELS))
        assert data.x_train.dtype == torch.int64
        assert torch.equal(data.x_train, X.long())

    @pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.bool, torch.float16, torch.float64])
    def test_bytes_and_booleans_are_measurements(self, kind):
        assert load((X.to(kind), LABELS)).x_train.dtype == torch.float32

    def test_one_feature_becomes_a_column(self):
        assert load((X[:, 0], LABELS)).x_train.shape == (N, 1)

    @pytest.mark.parametrize("y", [X[:, 0], X[:, :2], X[:, 0].double(), X[:, 0].half()])
    def test_floating_targets_are_a_regression(self, y):
        data = load((X, y))
        assert (data.task, data.classes) == ("regression", None)
        assert data.y_train.dtype == torch.float32
        assert torch.equal(data.y_train, y.float().reshape(N, -1))

    def test_whole_numbers_as_a_regression(self):
        data = load((X, LABELS + 5), task="regression")
        assert torch.equal(data.y_train, (LABELS + 5).float()[:, None])

    def test_whole_floats_as_classes(self):
        data = load((X, LABELS.float()), task="classification")
        assert torch.equal(data.y_train, LABELS)

    @pytest.mark.parametrize("y", [np.array(["b", "a", "c"] * 4), np.array(["b", "a", "c"] * 4, dtype=object),
                                   np.array([b"b", b"a", b"c"] * 4)])
    def test_text_is_numbered_in_sorted_order(self, y):
        data = load((X, y))
        assert data.classes == ("a", "b", "c")
        assert data.y_train.tolist() == [1, 0, 2] * 4

    def test_booleans_are_classes(self):
        data = load((X, LABELS == 1))
        assert data.classes == ("False", "True")
        assert data.y_train.tolist() == [0, 1, 0] * 4

    def test_text_is_numbered_over_all_parts(self):
        data = load({"train": (X, np.array(["b", "c"] * 6)), "test": (X[:1], np.array(["a"]))})
        assert data.classes == ("a", "b", "c")
        assert (data.y_train[0], data.y_test[0]) == (1, 0)

    def test_a_class_may_have_one_member(self):
        labels = torch.zeros(N, dtype=torch.int64)
        labels[5] = 1
        data = load((X, labels))
        part = partition(data, 0)
        assert sum(int(y.sum()) for y in (part.y_train, part.y_val, part.y_test)) == 1


def nan(x, *places, value=float("nan")):
    x = x.clone()
    for place in places:
        x[place] = value
    return x


class TestRefusals:
    @pytest.mark.parametrize(("source", "rule"), [
        ((X, LABELS[:-1]), "one length; got 12 features and 11 targets in the train data"),
        ((X[:0], LABELS[:0]), "not empty"),
        ((X[:, :0], LABELS), "not empty"),
        ({"train": (X, LABELS), "test": (X[:0], LABELS[:0])}, "not empty.*in the test data"),
        (TensorDataset(X[:0], LABELS[:0]), "not empty"),
        (Pairs([]), "not empty"),
        ((X[:9], LABELS[:9]), "at least 10 examples; got 9"),
        ((nan(X, (3, 1), (4, 2)), LABELS), re.escape("got 2 NaN in x of the train data: the first at index (3, 1)")),
        ((nan(X, (3, 1), value=float("-inf")), LABELS), "1 infinite in x"),
        ((nan(X.double(), (0, 0), value=1e300), LABELS), "1 infinite in x"),
        ((X, nan(X[:, 0], 7)), re.escape("1 NaN in y of the train data: the first at index (7,)")),
        ({"train": (X, LABELS), "val": (nan(X, (0, 0)), LABELS)}, "1 NaN in x of the val data"),
        ((X, LABELS - 1), "labels out of range.*got -1, 0, 1"),
        ((X, LABELS * 2), "labels out of range.*got 0, 2, 4"),
        ((X, LABELS + 1), "labels out of range.*got 1, 2, 3.*task='regression'"),
        ((X, torch.zeros(N, dtype=torch.int64)), "at least two classes"),
        ((X, np.array(["a"] * N)), "at least two classes"),
        ((X, torch.eye(N, dtype=torch.int64)), "one label an example.*argmax"),
        ((X, np.array(["a", None] * 6, dtype=object)), "booleans or text"),
        ((X.to(torch.complex64), LABELS), "real numbers; got type complex64"),
        ((np.array([["a"] * 3] * N), LABELS), "real numbers"),
        ((X, torch.zeros(N, 2, 2)), r"shape \(N,\) or \(N, d\)"),
        (([[1.0], [1.0, 2.0]] * 6, LABELS), "x and y are tensors or arrays"),
        ((X, 3), "one entry an example"),
        ({"train": (X, LABELS), "test": (X[:, :2], LABELS)}, "examples of one shape"),
        ({"train": (X, LABELS), "test": (X, np.array(["a"] * N))}, "targets of one type"),
        ({"test": (X, LABELS)}, "has 'train'"),
        ({"train": (X, LABELS), "valid": (X, LABELS)}, "optionally 'val' and 'test'"),
        ((X, LABELS, X), "pair .*tuple of 3"),
        ((TensorDataset(X, LABELS), TensorDataset(X, LABELS)), "a torch Dataset, or a dictionary"),
        (3, "got int"),
        (None, "got NoneType"),
        (TensorDataset(X), "items of a Dataset are pairs.*tuple of 1 at index 0"),
        (TensorDataset(X, X, LABELS), "tuple of 3 at index 0"),
        (Pairs([(X[0], 1)] * 10 + [{"x": 1}]), "dict at index 10"),
        (Pairs([(X[0], 1)] * 10 + [(X[0, :2], 1)]), re.escape("x of one shape; got (2,) and (3,)")),
    ])
    def test_refused(self, source, rule):
        with pytest.raises(InputError, match=rule):
            load(source)

    def test_streams_have_no_index(self):
        class Stream(IterableDataset):
            def __iter__(self):
                yield X[0], 1

        with pytest.raises(InputError, match="a length and items by index; got Stream"):
            load(Stream())

    def test_csv_columns_are_named(self, tmp_path):
        path = tmp_path / "table.csv"
        path.write_text("age,pay,y\n" + ",1,0\n" * 3 + "2,inf,1\n" * 9)
        with pytest.raises(InputError, match=r"3 NaN and 9 infinite in x of the train.*3 in column 'age', 9 in column 'pay'"):
            load(path)

    def test_empty_csv(self, tmp_path):
        path = tmp_path / "table.csv"
        path.write_text("age,pay,y\n")
        with pytest.raises(InputError, match="not empty"):
            load(path)

    def test_options(self):
        with pytest.raises(InputError, match="classification or regression"):
            load((X, LABELS), task="ranking")
        with pytest.raises(InputError, match="column of a CSV"):
            load((X, LABELS), target="y")
        with pytest.raises(InputError, match="Convert them, or choose task='regression'"):
            load((X, X[:, 0] + 0.5), task="classification")
        with pytest.raises(InputError, match="choose task='classification'"):
            load((X, np.array(["a", "b"] * 6)), task="regression")


class TestDigest:
    def test_depends_on_everything_that_is_trained_on(self):
        base = {"train": (X, LABELS), "test": (X[:3], LABELS[:3])}
        others = [
            {"train": (X, LABELS)}, {"train": (X, LABELS), "val": (X[:3], LABELS[:3])},
            base | {"test": (X[:3] + 1, LABELS[:3])}, base | {"train": (X, LABELS.flip(0))},
            {"train": (X.reshape(N, 3, 1), LABELS), "test": (X[:3].reshape(3, 3, 1), LABELS[:3])},
            {"train": (X.long(), LABELS), "test": (X[:3].long(), LABELS[:3])}]
        digests = [load(source).digest for source in (base, *others)]
        assert len(set(digests)) == len(digests)
        assert digests[0] == load(base).digest
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)

    def test_is_pinned(self):
        """A digest that changes between versions or machines would make finished runs look foreign."""
        assert load((X, LABELS)).digest == "6c9943107111d18c175bf90cd059876496b6d07a8bbed885004fc6daff6ef0c5"


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


def test_data_cannot_be_rebound():
    data = load((X, LABELS))
    assert isinstance(data, Data)
    with pytest.raises(AttributeError):
        data.x_train = X


def test_a_dataset_that_raises_in_the_middle_is_named():
    class Torn(Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            if index == 17:
                raise OSError("the file ends here")
            return torch.zeros(3), index % 2

    with pytest.raises(InputError, match="OSError at index 17: the file ends here"):
        load(Torn())
