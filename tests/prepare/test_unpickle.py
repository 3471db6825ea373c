"""What NumPy writes is read, in every spelling; what could run code is refused and not run."""

import builtins
import collections
import os
import pathlib
import pickle
import struct

import numpy as np
import pytest

from vlbert_jax.options import DataError
from vlbert_jax.prepare import unpickle

ARRAYS = [
    np.arange(12, dtype="<f4").reshape(3, 4),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(3, dtype=">i8"),
    np.array([[True], [False]]),
    np.zeros((0, 4), np.float16),
    np.array(7, np.uint8),
    np.array(["a", "中文"]),
    np.array([b"ab", b"c"]),
]


def same(found, expected):
    """Equal with type and dtype; arrays inside too."""
    if isinstance(expected, np.ndarray) and expected.dtype != object:
        np.testing.assert_array_equal(found, expected, strict=True)
        assert found.dtype == expected.dtype
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            same(*pair)
    else:
        assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize("protocol", range(6))
def test_what_numpy_writes(protocol):
    value = {
        "arrays": ARRAYS,
        "again": (ARRAYS[0], ARRAYS[0]),
        "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("é")],
        "plain": [None, True, 1, 2**70, -1.5, "text", b"\x00\xff", b"", (), {"a"}],
        np.int64(9): {b"key": [[]]},
    }
    if protocol < 4:
        value["plain"].remove({"a"})  # a call there
    same(unpickle.loads(pickle.dumps(value, protocol), "here"), value)
    older = pickle.dumps(value, protocol)
    if protocol < 4:  # lengths are not told: the name may be changed in place
        older = older.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        same(unpickle.loads(older, "here"), value)


def test_ordered_dictionary():
    value = collections.OrderedDict(b=1, a=np.arange(2))
    same(unpickle.loads(pickle.dumps(value), "here"), {"b": 1, "a": np.arange(2)})


def test_pickle_of_python_2():
    """Written by hand: cPickle stored bytes and text alike, as strings."""
    data = b"".join(
        [
            b"\x80\x02}(",
            b"U\x05boxescnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
            b"(K\x01K\x02K\x01\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R",
            b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89U\x08" + struct.pack("<2f", 1.5, -2) + b"tb",
            b"U\x02idJ\xd7\xfa\x05\x00U\x04nameU\x05caf\xc3\xa9u.",
        ]
    )
    expected = {"boxes": np.array([[1.5], [-2]], "<f4"), "id": 391895, "name": "cafÃ©"}
    same(unpickle.loads(data, "here"), expected)


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Thing:
    pass


def marked(tmp_path):
    return str(tmp_path / "was_run")


HOSTILE = {
    "os.system": lambda mark: Call(os.system, f"touch {mark}"),
    "builtins.eval": lambda mark: Call(builtins.eval, f"open({mark!r}, 'w')"),
    "builtins.exec": lambda mark: Call(builtins.exec, f"open({mark!r}, 'w')"),
    "builtins.open": lambda mark: Call(open, mark, "w"),
    "builtins.getattr": lambda mark: Call(getattr, "", "join"),
    "a class": lambda mark: Thing(),
    "pathlib": lambda mark: pathlib.Path(mark),
    "a numpy function": lambda mark: Call(np.load, mark, None, True),
    "numpy's runner": lambda mark: Call(np.testing.measure, f"open({mark!r}, 'w')"),
    "another pickle": lambda mark: Call(pickle.loads, pickle.dumps(Call(open, mark, "w"))),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("place", ["alone", "nested", "key", "array", "state"])
def test_hostile(name, protocol, place, tmp_path):
    mark = marked(tmp_path)
    bad = HOSTILE[name](mark)
    value = {
        "alone": bad,
        "nested": {"boxes": [ARRAYS[0], ({"x": bad},)]},
        "key": {(bad,): 1},
        "array": np.array([1, bad], object),
        "state": Call(np.dtype, bad),
    }[place]
    with pytest.raises(DataError) as error:
        unpickle.loads(pickle.dumps(value, protocol), "the_file, record 9")
    said = str(error.value)
    assert said.startswith("the_file, record 9: pickle with ")
    assert "Nothing of it was run" in said
    assert "\n" not in said
    assert not os.path.exists(mark)


def test_the_name_is_told():
    with pytest.raises(DataError, match=r"f: pickle with \w+\.system; expected only numbers, text"):
        unpickle.loads(pickle.dumps(Call(os.system, "true")), "f")
    with pytest.raises(DataError, match=r"pickle with os\.system"):
        unpickle.loads(b"(S'true'\nios\nsystem\n.", "f")  # the opcode of the oldest protocol
    with pytest.raises(DataError, match=r"reference to outside \('x'\)"):
        unpickle.loads(b"Px\n.", "f")
    with pytest.raises(DataError, match=r"dtype .*V8"):
        unpickle.loads(pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "f4")])), "f")


def bytes_of(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
DTYPE = b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
    "data",
    [
        bytes_of(RECONSTRUCT, b"}U\x08__code__K\x01sb"),  # state for a function
        bytes_of(RECONSTRUCT, b"N}U\x08__code__K\x01s\x86b"),
        bytes_of(b"cnumpy\nndarray\n(K\x02tR"),  # ndarray itself called
        bytes_of(b"cnumpy\nndarray\n)\x81"),
        bytes_of(DTYPE),  # no value
        bytes_of(DTYPE, b"U\x02f4\x85R(K\x03U\x01<NNU\x01xK\x40tb"),  # a dtype with fields
        bytes_of(DTYPE, b"U\x02f4\x85R(K\x03U\x01<(K\x04tNNtb"),
        bytes_of(DTYPE, b"U\x04V999\x85R"),
        bytes_of(RECONSTRUCT, b")R(K\x01(K\x7ft", DTYPE, b"U\x02f8\x85R\x89U\x01xtb"),  # bytes
        bytes_of(RECONSTRUCT, b")R(K\x01(J\xff\xff\xff\xfft", DTYPE, b"U\x02f4\x85R\x89U\x00tb"),
        bytes_of(RECONSTRUCT, b")R(K\x01(K\x01t", DTYPE, b"U\x02O8\x85R\x89U\x08AAAAAAAAtb"),
        bytes_of(b"]q\x00h\x00a"),  # a list in itself
        b"\x80\x02]",
        b"",
        b"\x82\x01.",
        b"\xff\xfe",
        pickle.dumps(ARRAYS[0])[:-20],
    ],
)
def test_broken(data):
    with pytest.raises((DataError, unpickle.DamagedError)):
        unpickle.loads(data, "f")


def test_what_is_wrong_is_told():
    with pytest.raises(DataError, match="a dtype with fields"):
        unpickle.loads(bytes_of(DTYPE, b"U\x02f4\x85R(K\x03U\x01<NNU\x01xK\x40tb"), "f")
    short = bytes_of(RECONSTRUCT, b")R(K\x01(K\x03t", DTYPE, b"U\x02f4\x85R\x89U\x08AAAAAAAAtb")
    with pytest.raises(unpickle.DamagedError, match=r"\(3,\) float32 with 8 bytes; expected 12"):
        unpickle.loads(short, "f")


def test_npy(tmp_path):
    file = tmp_path / "a.npy"
    for array in ARRAYS:
        np.save(file, array)
        same(unpickle.load_npy(file), array)
    info = {"bbox": ARRAYS[0], "num_boxes": 3}
    np.save(file, np.array(info, object))
    found = unpickle.load_npy(file)
    assert (found.dtype, found.shape) == (object, ())
    same(found.item(), info)
    np.save(file, np.array([None, info, [1, 2]], object))
    same(list(unpickle.load_npy(file)), [None, info, [1, 2]])


def test_npy_hostile(tmp_path):
    file, mark = tmp_path / "a.npy", marked(tmp_path)
    for value in (
        np.array(Call(open, mark, "w"), object),
        np.array([{"bbox": Call(open, mark, "w")}], object),
    ):
        np.save(file, value)
        with pytest.raises(DataError, match=r"a\.npy: pickle with \w+\.open"):
            unpickle.load_npy(file)
    np.save(file, np.zeros(1, [("a", "O")]))
    with pytest.raises(DataError, match="array of"):
        unpickle.load_npy(file)
    assert not os.path.exists(mark)


def test_npy_broken(tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, np.array({"a": 1}, object))
    whole = file.read_bytes()
    np.save(file, np.zeros(100))
    for data in (b"", b"no npy at all", whole[:-3], whole[:20], file.read_bytes()[:-8]):
        file.write_bytes(data)
        with pytest.raises(unpickle.DamagedError):
            unpickle.load_npy(file)
    np.save(file, np.array([1], object))
    file.write_bytes(file.read_bytes()[:128] + whole[128:])  # the header of another array
    with pytest.raises(unpickle.DamagedError, match="header tells"):
        unpickle.load_npy(file)
