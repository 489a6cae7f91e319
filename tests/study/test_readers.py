"""Files of every kind that is read, and of every kind that is refused."""

import builtins
import gzip
import struct
import sys

import numpy as np
import pandas as pd
import pytest

from dropkit.core.errors import InputError, MissingExtraError
from dropkit.study.data import load
from dropkit.study.readers import EMBEDDED, read, read_idx

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx_bytes(values, code=0x08):
    values = np.asarray(values)
    header = bytes([0, 0, code, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(IDX_TYPES[code]).tobytes()


def write_set(folder, prefix="", parts=("train", "t10k"), suffix="", n=12):
    folder.mkdir(exist_ok=True)
    pack = gzip.compress if suffix == ".gz" else bytes
    for shift, part in enumerate(parts):
        images = np.arange(n * 6).reshape(n, 2, 3) + shift
        (folder / f"{prefix}{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(images)))
        (folder / f"{prefix}{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(np.arange(n) % 3)))
    return folder


@pytest.fixture
def csv(tmp_path):
    def write(text, name="table.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path
    return write


class TestEmbedded:
    @pytest.mark.parametrize(("name", "shape", "classes"), [
        ("digits", (1797, 64), 10), ("breast_cancer", (569, 30), 2), ("wine", (178, 13), 3), ("iris", (150, 4), 3),
        ("diabetes", (442, 10), None)])
    def test_known_sets(self, name, shape, classes):
        raw = read(name)
        x, y = raw.parts["train"]
        assert list(raw.parts) == ["train"]
        assert (x.shape, y.shape, len(raw.columns)) == (shape, shape[:1], shape[1])
        assert (None if raw.classes is None else len(raw.classes)) == classes
        assert raw.name == name

    def test_every_name_is_tested(self):
        assert set(EMBEDDED) == {"digits", "breast_cancer", "wine", "iris", "diabetes"}

    @pytest.mark.parametrize(("name", "guess"), [("digit", "digits"), ("Iris", "iris"), ("breastcancer", "breast_cancer")])
    def test_unknown_name_suggests_the_nearest(self, name, guess):
        with pytest.raises(InputError, match=f"Did you mean '{guess}'") as caught:
            read(name)
        assert "Known are digits, breast_cancer" in str(caught.value)

    def test_unknown_name_without_a_near_one(self):
        with pytest.raises(InputError, match="Known are digits") as caught:
            read("zzzz")
        assert "Did you mean" not in str(caught.value)

    @pytest.mark.parametrize(("module", "source"), [("sklearn", "iris"), ("pandas", "table.csv")])
    def test_missing_extra(self, module, source, csv, monkeypatch):
        path = csv("a,b\n1,2\n")
        real = builtins.__import__

        def fake(name, *rest):
            if name.split(".")[0] == module:
                raise ImportError(name)
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", fake)
        with pytest.raises(MissingExtraError, match=r"dropkit\[study\]"):
            read(path if source.endswith(".csv") else source)


class TestPaths:
    @pytest.mark.parametrize("name", ["none.csv", "folder/none", "none.npz", "train-images-idx3-ubyte.gz"])
    def test_missing_file(self, name):
        with pytest.raises(InputError, match="file or folder exists"):
            read(name)

    def test_unsupported_suffix(self, tmp_path):
        path = tmp_path / "table.xlsx"
        path.write_bytes(b"x")
        with pytest.raises(InputError, match=r"\.csv, \.parquet, \.npz, or IDX.*table\.xlsx"):
            read(path)

    def test_target_is_for_csv(self, tmp_path):
        for source in ("iris", write_set(tmp_path / "set")):
            with pytest.raises(InputError, match="names a column of a CSV"):
                read(source, target="y")


class TestCsv:
    def test_last_column_is_the_target(self, csv):
        raw = read(csv("a,b,price\n1,2.5,10\n3,4,20\n"))
        x, y = raw.parts["train"]
        assert x.tolist() == [[1.0, 2.5], [3.0, 4.0]]
        assert y.tolist() == [10, 20]
        assert (raw.name, raw.columns, raw.tokens) == ("table", ("a", "b"), False)

    def test_named_target(self, csv):
        raw = read(str(csv("kind,b,c\nx,2,3\ny,4,5\n")), target="kind")
        assert raw.parts["train"][1].tolist() == ["x", "y"]
        assert raw.columns == ("b", "c")

    def test_booleans_are_numbers(self, csv):
        assert read(csv("a,y\nTrue,1\nFalse,0\n")).parts["train"][0].tolist() == [[1.0], [0.0]]

    def test_missing_values_stay_for_the_check_of_values(self, csv):
        assert np.isnan(read(csv("a,y\n1,1\n,0\n")).parts["train"][0]).sum() == 1

    @pytest.mark.parametrize(("text", "rule"), [
        ("", "a header, then rows"),
        ("a,y\n1,2,3\n", "a header, then rows"),
        ("1,2\n3,4\n", "starts with a header"),
        (",a,y\n0,1,2\n", "every column of a CSV file has a name.*column 0"),
        ("y\n1\n2\n", "features and a target"),
        ("a;y\n1;2\n", "separated by commas"),
        ("a,town,y\n1,Rome,2\n2,Oslo,3\n", "'Rome' in column 'town'.*get_dummies"),
        ("a,town,y\n1,5,2\n2,?,3\n", r"'\?' in column 'town'"),
        ("a,y\n1,2\n2,\n", "1 missing in column 'y'"),
    ])
    def test_refused(self, csv, text, rule):
        with pytest.raises(InputError, match=rule):
            read(csv(text))

    def test_unknown_target_suggests_the_nearest(self, csv):
        with pytest.raises(InputError, match="Did you mean 'price'"):
            read(csv("a,b,price\n1,2,3\n"), target="prize")

    def test_not_utf8(self, tmp_path):
        path = tmp_path / "latin.csv"
        path.write_bytes("größe,y\n1,2\n".encode("latin-1"))
        with pytest.raises(InputError, match="UTF-8"):
            read(path)

    def test_header_alone_is_read_as_no_rows(self, csv):
        x, y = read(csv("a,b,y\n")).parts["train"]
        assert (x.shape, y.shape) == ((0, 2), (0,))


class TestParquet:
    @pytest.fixture
    def parquet(self, tmp_path):
        def write(**columns):
            pd.DataFrame(columns).to_parquet(tmp_path / "table.parquet", index=False)
            return tmp_path / "table.parquet"

        return write

    def test_it_is_what_the_same_table_is_as_csv(self, parquet, csv):
        columns = {"a": [1, 3], "b": [2.5, 4.0], "on": [True, False], "price": [10, 20]}
        one, other = read(parquet(**columns)), read(csv("a,b,on,price\n1,2.5,True,10\n3,4,False,20\n"))
        for x, y in zip(one.parts["train"], other.parts["train"], strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
        assert (one.name, one.columns, one.tokens) == (other.name, other.columns, other.tokens)

    def test_named_target_of_text_categories_or_nullable_numbers(self, parquet):
        assert load(parquet(kind=pd.Categorical(list("xyx") * 4), a=range(12)), target="kind").classes == ("x", "y")
        assert load(parquet(a=range(12), n=pd.array([0, 1, 1] * 4, dtype="Int64"))).classes == ("0", "1")

    def test_columns_named_by_numbers_are_no_missing_header(self, parquet):
        assert read(parquet(**{"0": [1], "1": [2]})).columns == ("0",)

    def test_missing_values_and_text_are_named(self, parquet):
        with pytest.raises(InputError, match="12 NaN in x of the train data: 12 in column 'a'"):
            load(parquet(a=pd.array([None] * 12, dtype="Int64"), y=range(12)), task="regression")
        with pytest.raises(InputError, match="'red' in column 'colour'"):
            read(parquet(colour=["red"], y=[1]))
        with pytest.raises(InputError, match="1 missing in column 'y'"):
            read(parquet(a=[1, 2], y=[None, "x"]))

    def test_what_is_no_parquet_is_refused_in_a_line(self, tmp_path):
        (tmp_path / "no.parquet").write_text("a,b\n1,2\n")
        with pytest.raises(InputError, match=r"a Parquet file holds a table; got no\.parquet") as caught:
            read(tmp_path / "no.parquet")
        assert "\n" not in str(caught.value)

    def test_without_pyarrow_its_extra_is_named(self, parquet, monkeypatch):
        path = parquet(a=[1, 2], y=[0, 1])
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingExtraError, match=r"dropkit\[parquet\]"):
            read(path)


class TestNpz:
    @pytest.mark.parametrize("keys", [("x", "y"), ("X", "y"), ("data", "target"), ("x_train", "y_train"),
                                      ("X_train", "y_train")])
    def test_key_pairs(self, tmp_path, keys):
        np.savez(tmp_path / "set.npz", **{keys[0]: np.ones((4, 2)), keys[1]: np.arange(4)})
        raw = read(tmp_path / "set.npz")
        assert (raw.name, list(raw.parts), raw.tokens) == ("set", ["train"], True)
        assert raw.parts["train"][0].shape == (4, 2)

    def test_all_parts(self, tmp_path):
        arrays = {f"{letter}_{part}": np.full((n, 1), n) for part, n in (("train", 5), ("val", 3), ("test", 2))
                  for letter in "xy"}
        np.savez_compressed(tmp_path / "set.npz", **arrays)
        raw = read(tmp_path / "set.npz")
        assert {part: len(x) for part, (x, _) in raw.parts.items()} == {"train": 5, "val": 3, "test": 2}

    def test_other_keys(self, tmp_path):
        np.savez(tmp_path / "set.npz", images=np.ones(3), labels=np.ones(3))
        with pytest.raises(InputError, match=r"x and y, data and target.*images, labels in set\.npz"):
            read(tmp_path / "set.npz")

    def test_half_a_part(self, tmp_path):
        np.savez(tmp_path / "set.npz", x_train=np.ones(3), y_train=np.ones(3), x_test=np.ones(3))
        with pytest.raises(InputError, match="Save x_test and y_test, or neither"):
            read(tmp_path / "set.npz")

    def test_objects_are_never_unpickled(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return exec, ("raise SystemExit('unpickled')",)

        np.savez(tmp_path / "set.npz", x=np.array([Trap()], dtype=object), y=np.ones(1), allow_pickle=True)
        with pytest.raises(InputError, match="never unpickles"):
            read(tmp_path / "set.npz")

    @pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04broken"])
    def test_not_an_archive(self, tmp_path, content):
        (tmp_path / "set.npz").write_bytes(content)
        with pytest.raises(InputError, match="archive of arrays"):
            read(tmp_path / "set.npz")

    def test_a_single_array(self, tmp_path):
        with open(tmp_path / "set.npz", "wb") as out:
            np.save(out, np.ones(3))
        with pytest.raises(InputError, match="a single array"):
            read(tmp_path / "set.npz")

    def test_damaged_member(self, tmp_path):
        np.savez(tmp_path / "set.npz", x=np.arange(1000.0), y=np.arange(1000))
        raw = bytearray((tmp_path / "set.npz").read_bytes())
        raw[500:520] = b"\xff" * 20
        (tmp_path / "set.npz").write_bytes(raw)
        with pytest.raises(InputError, match="plain arrays"):
            read(tmp_path / "set.npz")


    def test_what_is_no_archive_is_not_taken_for_a_pickle(self, tmp_path):
        (tmp_path / "bad.npz").write_bytes(b"abc")
        with pytest.raises(InputError, match=r"something else, or a part, in bad\.npz") as caught:
            read(tmp_path / "bad.npz")
        assert "pickle" not in str(caught.value)


class TestIdx:
    @pytest.mark.parametrize("code", sorted(IDX_TYPES))
    @pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4)])
    def test_round_trip(self, tmp_path, code, shape):
        values = (np.arange(np.prod(shape)).reshape(shape) - (0 if code == 0x08 else 3)).astype(IDX_TYPES[code])
        (tmp_path / "file").write_bytes(idx_bytes(values, code))
        found = read_idx(tmp_path / "file")
        assert found.dtype == values.dtype.newbyteorder("=")
        assert (found == values).all()
        (tmp_path / "packed").write_bytes(gzip.compress(idx_bytes(values, code)))
        assert (read_idx(tmp_path / "packed") == values).all()

    @pytest.mark.parametrize("start", [b"", b"\0\0", b"\0\1\x08\1", b"\0\0\x07\1", b"\0\0\x08\0", b"\x89PNG"])
    def test_bad_magic(self, tmp_path, start):
        (tmp_path / "file").write_bytes(start)
        with pytest.raises(InputError, match="starts with two zero bytes"):
            read_idx(tmp_path / "file")

    @pytest.mark.parametrize("cut", [6, 10, 17])
    def test_truncated(self, tmp_path, cut):
        (tmp_path / "file").write_bytes(idx_bytes(np.ones((2, 3)))[:cut])
        with pytest.raises(InputError, match=f"got {cut} bytes, so it is truncated"):
            read_idx(tmp_path / "file")

    def test_too_long(self, tmp_path):
        (tmp_path / "file").write_bytes(idx_bytes(np.ones((2, 3))) + b"\0")
        with pytest.raises(InputError, match=r"18 bytes for shape .*got 19 bytes, so it is too long"):
            read_idx(tmp_path / "file")

    def test_header_that_promises_too_much_allocates_nothing(self, tmp_path):
        (tmp_path / "file").write_bytes(b"\0\0\x0e\3" + b"\xff" * 12)
        with pytest.raises(InputError, match="truncated"):
            read_idx(tmp_path / "file")

    def test_truncated_gzip(self, tmp_path):
        (tmp_path / "file.gz").write_bytes(gzip.compress(idx_bytes(np.arange(1000) % 7))[:-20])
        with pytest.raises(InputError, match="truncated or damaged"):
            read_idx(tmp_path / "file.gz")

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="file exists"):
            read_idx(tmp_path / "file")


class TestIdxSets:
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    @pytest.mark.parametrize("prefix", ["", "emnist-letters-"])
    def test_folder(self, tmp_path, prefix, suffix):
        raw = read(write_set(tmp_path / "shapes", prefix, suffix=suffix))
        assert {part: (x.shape, y.shape) for part, (x, y) in raw.parts.items()} == {
            "train": ((12, 2, 3), (12,)), "test": ((12, 2, 3), (12,))}
        assert raw.parts["test"][0][0, 0, 0] == 1
        assert raw.name == (prefix.rstrip("-") or "shapes")
        assert not raw.tokens

    def test_training_part_alone(self, tmp_path):
        assert list(read(write_set(tmp_path / "set", parts=("train",))).parts) == ["train"]

    def test_test_part_under_its_other_name(self, tmp_path):
        assert list(read(write_set(tmp_path / "set", "emnist-", ("train", "test"))).parts) == ["train", "test"]

    @pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
    def test_file_brings_its_partner(self, tmp_path, name):
        raw = read(write_set(tmp_path / "set") / name)
        assert list(raw.parts) == ["train"]
        assert raw.parts["train"][0][0, 0, 0] == 1
        assert raw.parts["train"][1].shape == (12,)

    def test_dotted_names(self, tmp_path):
        folder = write_set(tmp_path / "set", parts=("train",))
        for path in list(folder.iterdir()):
            path.rename(folder / path.name.replace("-idx", ".idx"))
        assert read(folder).parts["train"][0].shape == (12, 2, 3)

    def test_named_file_wins_over_its_twin(self, tmp_path):
        folder = write_set(tmp_path / "set", parts=("train",))
        (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.full((12, 2, 3), 9))))
        assert read(folder).parts["train"][0].max() == 71
        assert read(folder / "train-images-idx3-ubyte.gz").parts["train"][0].max() == 9

    def test_missing_partner(self, tmp_path):
        folder = write_set(tmp_path / "set")
        (folder / "t10k-labels-idx1-ubyte").unlink()
        with pytest.raises(InputError, match=r"in pairs.*no labels in set"):
            read(folder)

    def test_no_training_part(self, tmp_path):
        with pytest.raises(InputError, match="no images and no labels in set"):
            read(write_set(tmp_path / "set", parts=("t10k",)))

    def test_no_set_and_two_sets(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="no such file in empty"):
            read(tmp_path / "empty")
        write_set(tmp_path / "two", "a-")
        with pytest.raises(InputError, match="a-, b- in two"):
            read(write_set(tmp_path / "two", "b-"))
