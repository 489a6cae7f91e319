"""Examples that a trained model is asked about."""

import gzip

import numpy as np
import pytest

from dropkit.core.errors import InputError
from dropkit.study.unseen import labels_of, scale_like, unseen


def test_an_embedded_set_has_its_classes():
    found = unseen("iris")
    assert found.classes == ("setosa", "versicolor", "virginica")
    assert found.y.shape == (150,)


def test_of_idx_files_the_test_part_is_taken(tmp_path):
    draw = np.random.default_rng(0)
    for word, n in (("train", 12), ("t10k", 5)):
        for what, shape in (("images", (n, 3, 2)), ("labels", (n,))):
            values = draw.integers(0, 3, shape, dtype=np.uint8)
            head = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
            with gzip.open(tmp_path / f"{word}-{what}-idx{len(shape)}-ubyte.gz", "wb") as file:
                file.write(head + values.tobytes())
    assert unseen(tmp_path).x.shape == (5, 3, 2)
    assert unseen(tmp_path, part="train").x.shape == (12, 3, 2)
    with pytest.raises(InputError, match="has the part"):
        unseen(tmp_path, part="val")


def test_integers_of_an_array_are_token_ids_and_are_not_scaled(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(20).reshape(10, 2))
    np.savez(tmp_path / "train.npz", x=np.arange(40).reshape(20, 2), y=np.arange(20) % 2)
    found = scale_like(tmp_path / "train.npz").of(unseen(tmp_path / "x.npy"))
    assert found.x.tolist() == np.arange(20).reshape(10, 2).tolist()


def test_features_are_scaled_by_the_training_data(tmp_path):
    x = np.random.default_rng(0).normal(5, 3, (40, 2))
    np.savez(tmp_path / "train.npz", x=x, y=x.sum(1))
    np.save(tmp_path / "new.npy", x[:7] + 1)
    scale = scale_like(tmp_path / "train.npz")
    found = scale.of(unseen(tmp_path / "new.npy")).x
    np.testing.assert_allclose(found, (x[:7] + 1 - x.mean(0)) / x.std(0), rtol=1e-5)
    assert float(scale.y_mean) == pytest.approx(x.sum(1).mean(), rel=1e-6)
    np.save(tmp_path / "wide.npy", np.ones((3, 5)))
    with pytest.raises(InputError, match="the features of the training data"):
        scale.of(unseen(tmp_path / "wide.npy"))


@pytest.mark.parametrize(("y", "count", "classes", "labels"), [
    ([2, 0, 1], 3, None, [2, 0, 1]),
    ([2.0, 0.0], 3, None, [2, 0]),
    ([5, 7, 5], 2, None, [0, 1, 0]),
    (["b", "a"], 2, None, [1, 0]),
    (["b", "b"], 2, ("a", "b"), [1, 1]),
    ([3, 1], 3, ("1", "2", "3"), [2, 0]),
    ([1, 0], 2, ("no", "yes"), [1, 0]),
    ([[1], [0]], 2, None, [1, 0]),
    ([10, 9, 9], 2, None, [1, 0, 0]),
])
def test_targets_become_labels(y, count, classes, labels):
    assert labels_of(np.array(y), count, classes).tolist() == labels


@pytest.mark.parametrize(("y", "count", "classes"), [
    (["a", "a"], 2, None), ([5, 7, 9], 2, None), (["c"], 2, ("a", "b")), ([4], 3, ("1", "2", "3")), ([[0, 1]], 2, None),
])
def test_targets_that_are_no_classes_are_refused(y, count, classes):
    with pytest.raises(InputError):
        labels_of(np.array(y), count, classes)


@pytest.mark.parametrize("make", [
    lambda folder: (folder / "x.npy").write_bytes(b"no array"), lambda folder: np.save(folder / "x.npy", np.array(["a"])),
    lambda folder: np.save(folder / "x.npy", np.empty((0, 3))), lambda folder: np.save(folder / "x.npy", np.array([np.nan])),
    lambda folder: np.save(folder / "x.npy", np.array([{}], dtype=object)),
])
def test_arrays_that_are_no_features_are_refused(tmp_path, make):
    make(tmp_path)
    with pytest.raises(InputError):
        unseen(tmp_path / "x.npy")


def test_tables_with_gaps_or_words_are_refused(tmp_path):
    (tmp_path / "gap.csv").write_text("a,b\n1,\n2,3\n")
    with pytest.raises(InputError, match="every example has a target"):
        unseen(tmp_path / "gap.csv", target="b")
    with pytest.raises(InputError, match="data is finite"):
        unseen(tmp_path / "gap.csv")
    (tmp_path / "word.csv").write_text("a,b\n1,x\n")
    with pytest.raises(InputError, match="features are numbers"):
        unseen(tmp_path / "word.csv")
    (tmp_path / "no.parquet").write_text("a,b\n")
    with pytest.raises(InputError, match="holds a table"):
        unseen(tmp_path / "no.parquet")
