"""What a reading library complains of reaches its user as one refusal, without the places of the server."""

from __future__ import annotations

import pytest

from cubeport.adapters.sources.reading import decoding, opening
from cubeport.errors import NoSpace, SourceRejected


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("[Errno -51] NetCDF: Unknown file format: '/proc/self/fd/5'", "[Errno -51] NetCDF: Unknown file format: '…'"),
        ("No group found in store file:///srv/data/staging/0a/new/cube.zarr at path", "No group found in store … at path"),
        ("Unable to open file (name = /srv/x/y.nc, errno = 2)", "Unable to open file (name = …, errno = 2)"),
        ("unit kg/m2/s of t", "unit kg/m2/s of t"),
        ("first\nsecond /a/b", "first"),
        ("", "ValueError"),
        ("x" * 500, "x" * 200),
    ],
)
def test_words_of_libraries_are_bounded_and_name_no_place(said: str, shown: str) -> None:
    with pytest.raises(SourceRejected) as refusal, opening("a.nc"):
        raise ValueError(said)
    assert refusal.value.message == f"a.nc cannot be opened: {shown}"
    assert (refusal.value.reason, refusal.value.members["source"]) == ("unreadable", "a.nc")
    with pytest.raises(SourceRejected) as other, decoding("t"):
        raise RuntimeError(said or "ValueError")
    assert other.value.reason == "bad-codec"
    assert other.value.message.endswith(shown)


@pytest.mark.parametrize("ours", [NoSpace("full"), SourceRejected("no", reason="unsafe"), MemoryError()])
def test_our_own_errors_pass(ours: Exception) -> None:
    for manager in (opening("a.nc"), decoding("t")):
        with pytest.raises(type(ours)) as passed, manager:
            raise ours
        assert passed.value is ours
