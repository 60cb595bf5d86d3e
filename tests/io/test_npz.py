import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from afmid.errors import DataError
from afmid.io import npz

ARRAYS = hnp.arrays(
    st.sampled_from(["<f4", ">f8", "<i8", "u1", "<U3", "S4"]), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)
)


def archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer


def header(shape, dtype="<f4"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@given(arrays=st.dictionaries(st.sampled_from("abcxyz"), ARRAYS, max_size=4), compress=st.booleans())
def test_write_then_read_changes_nothing(arrays, compress):
    content = npz.npz_bytes(arrays, compress)
    read = npz.read_npz(io.BytesIO(content))
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert read[name].tobytes() == array.tobytes()
    assert npz.npz_bytes(read, compress) == content


@given(array=ARRAYS)
def test_an_npy_file_is_read_as_it_was_written(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    buffer.seek(0)
    read = npz.read_npy(buffer)
    assert read.shape == array.shape
    assert read.tobytes() == array.tobytes()


CONTENT = npz.npz_bytes({"df": np.arange(600, dtype=np.float32), "x": np.arange(3.0)})


@given(keep=st.integers(0, len(CONTENT) - 1))
def test_a_file_cut_short_anywhere_is_a_data_error(keep):
    with pytest.raises(DataError, match=r"copy the file again|cut short"):
        npz.read_npz(io.BytesIO(CONTENT[:keep]))


@given(position=st.integers(0, len(CONTENT) - 1), value=st.integers(0, 255))
def test_a_damaged_byte_is_never_more_than_a_data_error(position, value):
    damaged = bytearray(CONTENT)
    damaged[position] = value
    try:
        arrays = npz.read_npz(io.BytesIO(bytes(damaged)))
    except DataError:
        return
    assert sum(array.nbytes for array in arrays.values()) <= 2424


@given(st.binary(max_size=200))
def test_random_bytes_are_a_data_error(content):
    for start in (b"", b"PK\x03\x04", npz.NPY + b"\x01\x00"):
        for read in (npz.read_npz, npz.read_npy):
            with pytest.raises(DataError):
                read(io.BytesIO(start + content))


def test_python_objects_are_refused_without_being_loaded():
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a pickle was loaded",)

    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(DataError, match="never loads"):
        npz.read_npz(archive(df=buffer.getvalue()))
    with pytest.raises(DataError, match="damaged"):
        npz.read_npz(archive(df=pickle.dumps(Trap())))


def test_a_header_that_promises_more_than_the_file_holds_takes_no_memory():
    with pytest.raises(DataError, match="header says 400000000000000 bytes, the file holds 4"):
        npz.read_npz(archive(df=header((10**7, 10**7)) + b"1234"))
    with pytest.raises(DataError, match="cut short"):
        npz.read_npy(io.BytesIO(header((10**7, 10**7)) + b"1234"))


def test_a_shape_with_a_negative_side_is_refused():
    with pytest.raises(DataError, match=r"damaged|cut short"):
        npz.read_npz(archive(df=header((-1, -1)) + b"1234"))


def test_what_unpacks_to_more_than_the_limit_is_refused():
    content = npz.npz_bytes({"df": np.zeros(1000)}, compress=True)
    with pytest.raises(DataError, match="unpacks to"):
        npz.read_npz(io.BytesIO(content), max_bytes=1000)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(1000))
    buffer.seek(0)
    with pytest.raises(DataError, match="reads up to"):
        npz.read_npy(buffer, max_bytes=1000)


def test_a_zip_bomb_is_refused_and_a_small_stack_of_zeros_is_not():
    with pytest.raises(DataError, match="zip bomb"):
        npz.read_npz(io.BytesIO(npz.npz_bytes({"df": np.zeros(npz.SMALL, np.uint8)}, compress=True)))
    zeros = npz.npz_bytes({"df": np.zeros((64, 64, 10))}, compress=True)
    assert npz.read_npz(io.BytesIO(zeros))["df"].shape == (64, 64, 10)


def test_entries_that_are_no_arrays_are_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("data.pkl", b"")
    with pytest.raises(DataError, match=r"'data\.pkl', which is no array"):
        npz.read_npz(buffer)


def test_records_are_refused():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3, [("a", "f4")]))
    buffer.seek(0)
    with pytest.raises(DataError, match="records"):
        npz.read_npy(buffer)
