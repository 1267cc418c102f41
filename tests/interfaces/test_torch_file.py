"""Files of torch.save are read as data."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from jaxff.interfaces.torch_file import read_tensors


class Storage:
    def __init__(self, kind, values):
        self.kind, self.values = kind, values


class Tensor:
    """Pickles as one of PyTorch does."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Writes an object in the format of PyTorch, in which no PyTorch takes part."""

    def named(module, name):
        made = types.new_class(name, (), {}, lambda body: body.update(__module__=module))
        setattr(sys.modules[module], name, made)
        return made

    for name in ("torch", "torch._utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    named("torch._utils", "_rebuild_tensor_v2")
    kinds = {k: named("torch", k) for k in ("FloatStorage", "LongStorage", "HalfStorage")}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                key = str(len(storages))
                storages[key] = value.values.tobytes()
                return "storage", kinds[value.kind], key, "cpu", value.values.size
            return None

    storages = {}

    def write(content, **members):
        storages.clear()
        stream = io.BytesIO()
        Pickler(stream, protocol=2).dump(content)
        path = tmp_path / "model.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", stream.getvalue())
            for key, data in storages.items():
                archive.writestr(f"model/data/{key}", data)
            for name, data in members.items():
                archive.writestr(f"model/{name}", data)
        return path

    return write


def test_tensors_share_storages_and_have_strides(save):
    values = np.arange(12, dtype=np.float32)
    content = {
        "state": OrderedDict(
            whole=Tensor(Storage("FloatStorage", values), 0, (3, 4), (4, 1)),
            turned=Tensor(Storage("FloatStorage", values), 1, (4, 2), (1, 4)),
            single=Tensor(Storage("LongStorage", np.array([7])), 0, (), ()),
            empty=Tensor(Storage("FloatStorage", values[:0]), 0, (0, 4), (4, 1)),
        ),
        "cutoff": 5.0,
    }
    found = read_tensors(save(content, byteorder="little"))
    assert found["cutoff"] == 5.0
    state = found["state"]
    np.testing.assert_array_equal(state["whole"], values.reshape(3, 4))
    np.testing.assert_array_equal(state["turned"], values.reshape(3, 4)[:2].T + 1)
    np.testing.assert_array_equal(state["single"], np.int64(7), strict=True)
    assert state["empty"].shape == (0, 4)
    state["whole"][0, 0] = 5.0  # its own memory, which can be written


@pytest.mark.parametrize(
    ("content", "members", "message"),
    [
        (Tensor(Storage("FloatStorage", np.ones(4, np.float32)), 1, (2, 2), (2, 1)), {}, "beyond"),
        (Tensor(Storage("FloatStorage", np.ones(4, np.float32)), 0, (2,), (-1,)), {}, "beyond"),
        (Tensor(Storage("FloatStorage", np.ones(4)), 0, (4,), (1,)), {}, "8 numbers, expected 4"),
        (Tensor(Storage("HalfStorage", np.ones(4, np.half)), 0, (4,), (1,)), {}, "HalfStorage"),
        ({"run": print}, {}, "refers to __builtin__.print"),
        ({}, {"byteorder": "big"}, "byte order is big"),
    ],
)
def test_all_else_is_refused(save, content, members, message):
    with pytest.raises(ValueError, match=rf"model\.pth: expected a file of torch\.save.*{message}"):
        read_tensors(save(content, **members))


def test_other_formats_are_refused(tmp_path):
    (tmp_path / "old.pth").write_bytes(pickle.dumps([1.0]))
    with pytest.raises(ValueError, match=r"old\.pth: expected a file of torch"):
        read_tensors(tmp_path / "old.pth")
    np.savez(tmp_path / "arrays.npz", x=np.ones(2))
    with pytest.raises(ValueError, match=r"no member data\.pkl"):
        read_tensors(tmp_path / "arrays.npz")
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "none.pth")
