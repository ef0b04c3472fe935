"""Archives that describe themselves: every change of a bit is found, or changes nothing."""

import io

import numpy as np
import pytest

from jaxgen.system import archives
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile

ARRAYS = {"params": np.arange(5, dtype=np.float32), "flag": np.array([True])}
META = {"kind": "toy", "text": "\u00e4", "numbers": [1, 2.5, None]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "toy.npz"
    path.write_bytes(archives.pack_described(ARRAYS, META))
    return path


def assert_read(path):
    arrays, meta = archives.load_described(path)
    assert meta == META and arrays.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(arrays[name], values)


def test_what_is_packed_comes_back_and_its_bytes_follow_from_it(path):
    assert_read(path)
    backwards = dict(reversed(ARRAYS.items()))
    assert archives.pack_described(backwards, META) == path.read_bytes()


def test_arrays_of_a_group_are_named_with_it_and_no_name_leads_out():
    """As the metrics of a group of parameters are."""
    data = archives.pack({"actor/loss": np.arange(3), "loss": np.arange(2)})
    with np.load(io.BytesIO(data)) as archive:
        assert archive.files == ["actor/loss", "loss"]
        np.testing.assert_array_equal(archive["actor/loss"], np.arange(3))
    for name in ("../loss", "/loss", "actor//loss"):
        with pytest.raises(ValueError, match="is not allowed as a name"):
            archives.pack({name: np.arange(3)})


def test_no_flipped_bit_changes_what_is_read(path):
    """Some are in fields of the archive that nobody reads; of the others each is an error."""
    whole, found = path.read_bytes(), 0
    for offset in range(len(whole)):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << offset % 8
        path.write_bytes(damaged)
        try:
            assert_read(path)
        except DamagedFile as damage:
            assert str(damage).startswith(f"{path}: ")
            found += 1
    assert found > len(whole) / 2


def test_every_truncation_is_found(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFile, match="toy.npz: "):
            archives.load_described(path)


OTHER = {"params": np.arange(5, dtype=np.float64)}


@pytest.mark.parametrize("changes", [OTHER, {"more": np.zeros(1)}, {"meta": np.zeros(3, np.uint8)}])
def test_an_array_that_was_exchanged_or_added_is_found(path, changes):
    with np.load(path) as archive:
        np.savez(path, **dict(archive) | changes)
    with pytest.raises(DamagedFile, match="toy.npz: "):
        archives.load_described(path)


@pytest.mark.parametrize("name", ["params", "meta"])
def test_an_array_that_was_left_out_is_found(path, name):
    with np.load(path) as archive:
        np.savez(path, **{key: archive[key] for key in archive.files if key != name})
    with pytest.raises(DamagedFile, match="toy.npz: "):
        archives.load_described(path)


def test_only_the_same_kind_is_replaced(path, tmp_path):
    archives.check_replaceable(path, "toy")
    archives.check_replaceable(tmp_path / "new", "toy")
    with pytest.raises(BadInput, match="toy.npz holds toy and stays as it is; name a file"):
        archives.check_replaceable(path, "other")
    path.write_bytes(path.read_bytes()[:300])
    archives.check_replaceable(path, "toy")
    path.write_bytes(b"")
    archives.check_replaceable(path, "toy")
