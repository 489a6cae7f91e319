"""What `load` accepts and refuses."""

import re

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from dropkit.core.errors import InputError
from dropkit.study.data import Data, load
from dropkit.study.partition import partition

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
        with pytest.raises(InputError, match="classification, regression, sequence"):
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


class TestResolution:
    """Numbers whose differences float32 cannot hold are refused; all others are let through."""

    NOISE = torch.randn(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    @pytest.mark.parametrize("kind", ["x", "y", "column"])
    def test_differences_that_are_lost(self, kind, tmp_path):
        times = 1.7e9 + 60 * self.NOISE
        x, y = (times, self.NOISE[:, 0]) if kind != "y" else (self.NOISE, times[:, 0])
        data = (x, y)
        if kind == "column":
            np.savetxt(tmp_path / "t.csv", np.column_stack([self.NOISE[:, 0], times[:, 0], y]), delimiter=",", header="a,t,y",
                       comments="")
            data = tmp_path / "t.csv"
        named = {"x": "in column 0 of x", "y": r"e\+09 with a standard deviation of 61.3 in y", "column": "in column 't' of x"}
        with pytest.raises(InputError, match=f"keep their differences in float32.*{named[kind]}"):
            load(data)

    @pytest.mark.parametrize(("centre", "spread"), [(1.7e9, 3e7), (2015.0, 4.0), (0.0, 1e-30), (5.0, 0.0), (-1e4, 1.0)])
    def test_differences_that_are_kept(self, centre, spread):
        assert load((centre + spread * self.NOISE, self.NOISE[:, 0])).x_train.shape == (400, 2)
        assert load((self.NOISE, centre + spread * self.NOISE[:, 0]), task="regression").y_train.shape == (400, 1)

    def test_what_came_as_float32_is_the_user_s_own(self):
        assert load(((1.7e9 + 60 * self.NOISE).float(), self.NOISE[:, 0])).x_train.dtype == torch.float32
