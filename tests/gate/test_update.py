"""An update equals the union of the steps, and touches only what it must: every case against xarray's own concat."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cubeport.adapters.gate.measure import measure
from cubeport.adapters.gate.parent import Parent
from cubeport.cubes.description import OF_VALUES
from cubeport.cubes.repairs import flag
from cubeport.errors import (
    CalendarMismatch,
    Corrupt,
    CubeportError,
    DtypeMismatch,
    EncodingMismatch,
    GridMismatch,
    Overlap,
    SourceRejected,
    UnitsMismatch,
    VariablesMismatch,
)

from .desk import desk, ours_of, written

CHUNKS = {"time": 4, "lat": 2, "lon": 3}


def cube(days: list[int], *, add: float = 0.0, units: str = "days since 2000-01-01", packed: bool = False) -> xr.Dataset:
    """A small cube whose values say the day and the cell; day 5 is all missing."""
    cells = np.arange(12, dtype="float32").reshape(3, 4)
    values = np.stack([np.full((3, 4), np.nan, "f4") if day == 5 else day * 100 + cells + add for day in days]).astype("float32")
    made = xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K", "_FillValue": np.float32(-9)})},
        coords={
            "time": ("time", np.asarray(days, "int64"), {"units": units, "calendar": "standard", "standard_name": "time"}),
            "lat": ("lat", [10.0, 20.0, 30.0], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 1.0, 2.0, 3.0], {"units": "degrees_east"}),
        },
        attrs={"title": "held"},
    )
    if packed:
        made["t"] = (("time", "lat", "lon"), np.nan_to_num(values / 10, nan=-99).astype("int16"))
        made["t"].attrs = {"units": "K", "scale_factor": np.float32(0.1), "_FillValue": np.int16(-99)}
    made["area"] = (("lat", "lon"), cells.astype("float64"), {"units": "m2"})
    return made


def save(path: Path, made: xr.Dataset) -> Path:
    attrs = {str(name): dict(variable.attrs) for name, variable in made.variables.items()}
    for name, variable in made.variables.items():
        variable.attrs.pop("_FillValue", None)
        variable.encoding["_FillValue"] = attrs[str(name)].get("_FillValue")
    made.to_netcdf(path)
    return path


class Held:
    """A version in a folder, made and updated by the two tasks of the gate."""

    def __init__(self, folder: Path, found: dict[str, Any]) -> None:
        self.folder = folder
        self.found = found

    @classmethod
    def make(cls, folder: Path, source: Path) -> Held:
        said = written(folder, source, chunks=CHUNKS)
        with desk([]) as context:
            return cls(folder, measure({"target": str(folder), "digests": said["digests"], "fields": None}, context))

    def base(self, on_overlap: str = "error") -> dict[str, Any]:
        ends = "valid_min", "valid_max", "shown_min", "shown_max"
        ranges = {each["name"]: [each[end] for end in ends] for each in self.found["description"]["variables"]}
        time = self.found["description"]["temporal"]
        return {
            "folder": str(self.folder),
            "digest": self.found["digest"],
            "brings": False,
            "ranges": ranges,
            "empty": [time["empty"], time["empty_count"]],
            "notes": [each for each in self.found["description"]["warnings"] if each[0] in OF_VALUES],
            "on_overlap": on_overlap,
        }

    def update(
        self, folder: Path, *sources: Path, on_overlap: str = "error", **changes: Any
    ) -> tuple[Held, set[str], dict[str, Any]]:
        """Return the updated version, whole in a folder, the keys that were written for it, and the change."""
        said = written(folder, *sources, base=self.base(on_overlap), **changes)
        request = {"target": str(folder), "digests": said["digests"], "fields": None}
        with desk([]) as context:
            found = measure({**request, "base": self.base(on_overlap), "change": said["change"]}, context)
        wrote = {path.relative_to(folder / "cube.zarr").as_posix() for path in (folder / "cube.zarr").rglob("*") if path.is_file()}
        manifest = (folder / "manifest.json").read_bytes()
        assert hashlib.sha256(manifest).hexdigest() == found["digest"]
        listed = {each["key"]: each for each in json.loads(manifest)["entries"]}
        assert wrote <= listed.keys()
        for key in listed.keys() - wrote:
            data = (self.folder / "cube.zarr" / key).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (listed[key]["size"], listed[key]["sha256"])
            (folder / "cube.zarr" / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / "cube.zarr" / key).hardlink_to(self.folder / "cube.zarr" / key)
        assert found["files"] == len(listed)
        return Held(folder, found), wrote, said["change"]

    def values(self) -> xr.Dataset:
        return xr.open_zarr(self.folder / "cube.zarr", consolidated=True, chunks=None, decode_times=False).load()

    def range_of(self, name: str) -> tuple[float | None, float | None]:
        [found] = [each for each in self.found["description"]["variables"] if each["name"] == name]
        return found["valid_min"], found["valid_max"]


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held.make(tmp_path / "v1", save(tmp_path / "v1.nc", cube(list(range(10)))))


def check(updated: Held, days: list[int], changed: dict[int, float]) -> None:
    """Compare with the truth: every day's values, ranges, and a version that was written whole at once."""
    found = updated.values()
    assert found.time.values.tolist() == days
    for number, day in enumerate(days):
        wanted = cube([day], add=changed.get(day, 0.0))
        np.testing.assert_array_equal(found.t.values[number], wanted.t.values[0], err_msg=f"day {day}")
    np.testing.assert_array_equal(found.area.values, cube([0]).area.values)
    assert found.attrs["title"] == "held"
    values = found.t.values[~np.isnan(found.t.values)]
    assert updated.range_of("t") == ((float(values.min()), float(values.max())) if values.size else (None, None))
    assert updated.found["description"]["temporal"]["count"] == len(days)


def test_an_append_touches_the_last_chunks_only(held: Held, tmp_path: Path) -> None:
    updated, wrote, change = held.update(tmp_path / "v2", save(tmp_path / "new.nc", cube([10, 11, 12])))
    check(updated, list(range(13)), {})
    assert change == {"dimension": "time", "length": 10, "kept": ((0, 10),), "added": 3, "replaced": 0}
    chunks = {key for key in wrote if "/c" in key}
    # Steps 8 to 11 share a chunk with what is new, 12 begins another one; the time is one chunk, and the static variables stay.
    assert chunks == {"time/c/0", *(f"t/c/{t}/{y}/{x}" for t in (2, 3) for y in (0, 1) for x in (0, 1))}


def test_interior_steps_are_replaced_and_nothing_else(held: Held, tmp_path: Path) -> None:
    updated, wrote, change = held.update(tmp_path / "v2", save(tmp_path / "new.nc", cube([4, 6], add=0.5)), on_overlap="replace")
    check(updated, list(range(10)), {4: 0.5, 6: 0.5})
    assert (change["added"], change["replaced"]) == (0, 2)
    assert {key.split("/")[2] for key in wrote if key.startswith("t/c/")} == {"1"}


def test_a_replaced_extreme_is_not_in_the_range_any_more(held: Held, tmp_path: Path) -> None:
    updated, _, _ = held.update(tmp_path / "v2", save(tmp_path / "new.nc", cube([9], add=-900.0)), on_overlap="replace")
    check(updated, list(range(10)), {9: -900.0})


def test_infinite_values_that_are_added_are_told_as_long_as_they_are_there(held: Held, tmp_path: Path) -> None:
    odd, _, _ = held.update(tmp_path / "v2", save(tmp_path / "inf.nc", cube([10], add=np.inf)))
    after, _, _ = odd.update(tmp_path / "v3", save(tmp_path / "next.nc", cube([11])))
    told = [[kind for kind, _ in each.found["description"]["warnings"]] for each in (held, odd, after)]
    assert told == [[], ["infinite"], ["infinite"]]


def test_values_far_beyond_those_of_the_parent_are_told_and_colours_leave_them_out(held: Held, tmp_path: Path) -> None:
    odd, _, _ = held.update(tmp_path / "v2", save(tmp_path / "far.nc", cube([10], add=1e30)))
    after, _, _ = odd.update(tmp_path / "v3", save(tmp_path / "next.nc", cube([11])))
    told = [[kind for kind, _ in each.found["description"]["warnings"]] for each in (held, odd, after)]
    assert told == [[], ["outliers"], ["outliers"]]
    (found,) = (each for each in after.found["description"]["variables"] if each["name"] == "t")
    assert found["valid_max"] > 9e29
    assert found["shown_max"] < 1e6


def test_held_steps_are_kept_by_skip_and_refused_by_default(held: Held, tmp_path: Path) -> None:
    new = save(tmp_path / "new.nc", cube([8, 9, 10], add=0.5))
    with pytest.raises(Overlap) as refusal:
        held.update(tmp_path / "refused", new)
    assert len(refusal.value.members["periods"]) == 2
    assert "'t' has other values at" in refusal.value.message
    updated, _, change = held.update(tmp_path / "v2", new, on_overlap="skip")
    check(updated, list(range(11)), {10: 0.5})
    assert (change["added"], change["replaced"]) == (1, 0)


def test_the_same_steps_again_change_no_byte(held: Held, tmp_path: Path) -> None:
    for number, on_overlap in enumerate(("skip", "replace", "error")):
        new = save(tmp_path / f"{number}.nc", cube([3, 4]))
        updated, _, _ = held.update(tmp_path / f"v{number + 2}", new, on_overlap=on_overlap)
        assert updated.found["digest"] == held.found["digest"]


def test_equal_steps_are_found_piece_by_piece(held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubeport.adapters.gate.parent._COMPARED_BYTES", 40)  # less than a step
    updated, _, change = held.update(tmp_path / "v2", save(tmp_path / "new.nc", cube([2, 3, 5, 9, 10])))
    check(updated, list(range(11)), {})
    assert (change["added"], change["replaced"]) == (1, 0)
    for number, day in enumerate((2, 3, 9)):
        odd = cube([2, 3, 5, 9, 10])
        odd["t"][[2, 3, 5, 9, 10].index(day), -1, -1] += 0.5
        with pytest.raises(Overlap, match=f"'t' has other values at .*-{day + 1:02}"):
            held.update(tmp_path / f"refused{number}", save(tmp_path / f"odd{number}.nc", odd))


def test_earlier_steps_and_a_hole(held: Held, tmp_path: Path) -> None:
    updated, _, change = held.update(tmp_path / "v2", save(tmp_path / "new.nc", cube([-3, 12])))
    check(updated, [-3, *range(10), 12], {})
    assert change["kept"] == ()


def test_another_reference_date_and_type_of_time_are_the_same_days(held: Held, tmp_path: Path) -> None:
    new = cube([0, 1], units="days since 2000-01-11")
    new["time"] = new.time.astype("float64")
    new.time.attrs = {"units": "days since 2000-01-11", "calendar": "proleptic_gregorian", "standard_name": "time"}
    new["t"].values[:] = cube([10, 11]).t.values
    updated, _, _ = held.update(tmp_path / "v2", save(tmp_path / "new.nc", new))
    check(updated, list(range(12)), {})


def test_one_step_with_a_scalar_time_joins(held: Held, tmp_path: Path) -> None:
    updated, _, _ = held.update(tmp_path / "v2", save(tmp_path / "new.nc", cube([10]).squeeze("time")))
    check(updated, list(range(11)), {})


def test_a_single_value_that_the_parent_does_not_have_is_left_out_of_chosen_variables(held: Held, tmp_path: Path) -> None:
    made = cube([10]).assign_coords(height=((), 2.0, {"units": "m", "positive": "up"}))
    source = save(tmp_path / "new.nc", made)
    with pytest.raises(VariablesMismatch, match="'height' is new") as caught:
        written(tmp_path / "refused", source, base=held.base())
    fields = str(caught.value.next_step).removeprefix("choose the existing ones: --variables ").split(",")
    said = written(tmp_path / "v2", source, base=held.base(), variables=fields)
    assert [words for kind, words in said["warnings"] if kind == "variable-skipped" and "'height'" in words]
    assert "height" not in said["digests"]


def test_packed_values_stay_packed_alike(tmp_path: Path) -> None:
    held = Held.make(tmp_path / "v1", save(tmp_path / "v1.nc", cube(list(range(6)), packed=True)))
    updated, _, _ = held.update(tmp_path / "v2", save(tmp_path / "new.nc", cube([6, 7], packed=True)))
    both = ours_of(updated.folder, mask_and_scale=False, decode_times=False)
    assert both.t.dtype == "int16"
    np.testing.assert_array_equal(both.t.values, cube(list(range(8)), packed=True).t.values)
    other = cube([8], packed=True)
    other["t"].attrs["scale_factor"] = np.float32(0.2)
    with pytest.raises(EncodingMismatch, match="scale_factor"):
        updated.update(tmp_path / "refused", save(tmp_path / "other.nc", other))


_NAN = np.float32("nan")


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"_FillValue": _NAN}, {"_FillValue": None, "scale_factor": np.float32(1)}),
        ({"_FillValue": None, "scale_factor": np.float32(1)}, {"_FillValue": _NAN}),
        ({"_FillValue": np.float32(61.11), "missing_value": 61.11}, {"_FillValue": np.float32(61.11)}),
        ({"_FillValue": None, "missing_value": np.float32(61.11)}, {"_FillValue": np.float32(61.11), "missing_value": _NAN}),
    ],
    ids=["nan-none", "none-nan", "both-one", "other-both"],
)
def test_attributes_that_say_the_same_of_missing_values_are_the_same(tmp_path: Path, first: Any, then: Any) -> None:
    """An update was refused, and a series was decoded."""

    def saved(name: str, days: list[int], attributes: Any) -> Path:
        made = cube(days)
        made["t"].values[:, 1, 1] = 61.11
        made["t"].attrs |= attributes
        return save(tmp_path / name, made)

    old, new = saved("v1.nc", list(range(6)), first), saved("new.nc", [6, 7], then)
    expected = cube(list(range(8))).t.values
    expected[:, 1, 1] = np.nan if "missing_value" in first else np.float32(61.11)
    updated, _, _ = Held.make(tmp_path / "v1", old).update(tmp_path / "v2", new)
    np.testing.assert_array_equal(ours_of(updated.folder).t.values, expected)
    said = written(tmp_path / "series", old, new)
    assert not [kind for kind, _ in said["warnings"] if kind == "unpacked"]
    np.testing.assert_array_equal(ours_of(tmp_path / "series").t.values, expected)
    with pytest.raises(EncodingMismatch, match="_FillValue"):
        updated.update(tmp_path / "refused", saved("other.nc", [8], {"_FillValue": np.float32(-9)}))


def _other(change: str) -> xr.Dataset:
    new = cube([10])
    match change:
        case "grid":
            new["lat"] = ("lat", [10.0, 20.0, 31.0], new.lat.attrs)
        case "type":
            new["t"] = new.t.astype("float64").assign_attrs(new.t.attrs)
        case "units":
            new["t"].attrs["units"] = "degC"
        case "calendar":
            new["time"].attrs["calendar"] = "noleap"
        case "variable":
            new = new.rename(t="u")
        case "descending":
            new = cube([12, 11])
        case "order":
            new = new.transpose("lon", "lat", "time")
        case "noon":
            new = new.assign_coords(time=("time", [10.5], new.time.attrs))
    return new


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ("grid", GridMismatch, "'lat' differs at index 2"),
        ("type", DtypeMismatch, "'t' is float64"),
        ("units", UnitsMismatch, "'degC'"),
        ("calendar", CalendarMismatch, "noleap"),
        ("variable", VariablesMismatch, "'u' is new"),
        ("descending", SourceRejected, "sort: "),
        ("order", VariablesMismatch, """--normalise 'transpose: ["time", "lat", "lon"]'"""),
        ("noon", DtypeMismatch, "'time' has 10.5, and only whole numbers"),
    ],
)
def test_what_does_not_belong_is_refused_by_its_name(
    held: Held, tmp_path: Path, change: str, error: type[CubeportError], words: str
) -> None:
    with pytest.raises(error) as refusal:
        held.update(tmp_path / "refused", save(tmp_path / "new.nc", _other(change)))
    assert words in f"{refusal.value.message} {refusal.value.next_step}"


def test_a_lost_chunk_of_the_parent_is_damage_and_never_fill(held: Held, tmp_path: Path) -> None:
    (held.folder / "cube.zarr/t/c/2/0/0").unlink()
    with pytest.raises(Corrupt):
        held.update(tmp_path / "v2", save(tmp_path / "new.nc", cube([10])))


def test_a_parent_with_another_manifest_is_not_believed(held: Held, tmp_path: Path) -> None:
    manifest = held.folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(Corrupt):
        held.update(tmp_path / "v2", save(tmp_path / "new.nc", cube([10])))


def test_a_small_beginning_does_not_leave_small_chunks_for_ever(tmp_path: Path) -> None:
    folder = tmp_path / "v0"
    said = written(folder, save(tmp_path / "0.nc", cube([0])))
    with desk([]) as context:
        held = Held(folder, measure({"target": str(folder), "digests": said["digests"], "fields": None}, context))
    for day in range(1, 40):
        held, _, _ = held.update(tmp_path / f"v{day}", save(tmp_path / f"{day}.nc", cube([day])))
    check(held, list(range(40)), {})
    assert len(list((held.folder / "cube.zarr/t/c").rglob("*"))) < 12


def test_the_labels_of_the_parent_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, reads, read = Held.make(tmp_path / "a", save(tmp_path / "a.nc", cube([0, 1, 2]))), list[str](), Parent.read

    def counted(self: Parent, dataset_id: str, version_id: str, key: str) -> Any:
        reads.append(key)
        return read(self, dataset_id, version_id, key)

    monkeypatch.setattr(Parent, "read", counted)
    written(tmp_path / "b", save(tmp_path / "b.nc", cube([3])), base=held.base())
    assert sorted(key for key in reads if key.endswith("/c/0")) == ["lat/c/0", "lon/c/0", "time/c/0"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.sets(st.integers(0, 16), min_size=1, max_size=10),
    new=st.sets(st.integers(0, 20), min_size=1, max_size=8),
    on_overlap=st.sampled_from(["skip", "replace"]),
)
def test_any_update_is_the_union(tmp_path_factory: pytest.TempPathFactory, days: set[int], new: set[int], on_overlap: str) -> None:
    folder = tmp_path_factory.mktemp("update")
    held = Held.make(folder / "v1", save(folder / "v1.nc", cube(sorted(days))))
    updated, _, _ = held.update(folder / "v2", save(folder / "new.nc", cube(sorted(new), add=0.5)), on_overlap=on_overlap)
    changed = {day: 0.5 for day in new if on_overlap == "replace" or day not in days}
    check(updated, sorted(days | new), changed)


def in_type(kind: str, days: list[int], **attributes: Any) -> xr.Dataset:
    """A cube of a type, with values that only double precision has."""
    made = cube(days)
    values = made.t.values.astype("float64") + 0.1
    kept = {key: value for key, value in ({**made.t.attrs, **attributes}).items() if value is not None}
    fill = {"_FillValue": np.dtype(kind).type(kept["_FillValue"])} if "_FillValue" in kept else {}
    made["t"] = (made.t.dims, values.astype(kind), {**kept, **fill})
    made["mean"] = ("time", values[:, 0, 0].astype(kind), {"units": "K"})
    return made


@pytest.mark.parametrize("fill", [-9, 1e20])
@pytest.mark.parametrize(("held_kind", "kind"), [("float32", "float64"), ("float64", "float32")])
def test_the_step_of_the_refusal_converts_the_precision(tmp_path: Path, held_kind: str, kind: str, fill: float) -> None:
    held = Held.make(tmp_path / "v1", save(tmp_path / "v1.nc", in_type(held_kind, [0, 1, 2], _FillValue=fill)))
    new = save(tmp_path / "new.nc", in_type(kind, [3, 4, 5], _FillValue=fill))
    with pytest.raises(DtypeMismatch, match=rf"'t' is {kind}, and {held_kind} in the existing data") as refusal:
        held.update(tmp_path / "refused", new)
    [step] = refusal.value.members["repair"]
    # Of one dimension, single precision is taken where it is exact in double, as labels are.
    names = ("t", "mean") if held_kind == "float32" else ("t",)
    assert step == {"set_dtype": dict.fromkeys(names, held_kind)}
    assert str(refusal.value.next_step).endswith(f"repeat with {flag(step)}")
    updated, _, change = held.update(tmp_path / "v2", new, normalise=[step])
    assert change["added"] == 3
    found = updated.values()
    for name in ("t", "mean"):
        parts = in_type(held_kind, [0, 1, 2])[name].values, in_type(kind, [3, 4, 5])[name].values.astype(held_kind)
        np.testing.assert_array_equal(found[name].values, np.concatenate(parts))
        assert found[name].dtype == np.dtype(held_kind)
    again = save(tmp_path / "again.nc", in_type(kind, [4], _FillValue=fill))  # equal steps change nothing, in either precision
    assert updated.update(tmp_path / "v3", again, normalise=[step])[2]["replaced"] == 0


@pytest.mark.parametrize(
    "other",
    [
        in_type("int32", [3]),
        in_type("float64", [3], _FillValue=1e20),  # the step would not cure that
        in_type("float64", [3], _FillValue=None),
        in_type("float64", [3], scale_factor=2.0),
    ],
)
def test_no_step_is_advised_that_would_not_do(tmp_path: Path, other: xr.Dataset) -> None:
    held = Held.make(tmp_path / "v1", save(tmp_path / "v1.nc", in_type("float32", [0, 1, 2])))
    with pytest.raises(DtypeMismatch) as refusal:
        held.update(tmp_path / "refused", save(tmp_path / "new.nc", other))
    assert "repair" not in refusal.value.members
    assert "set_dtype" not in str(refusal.value.next_step)


def test_no_step_is_advised_for_what_a_transform_has_made(tmp_path: Path) -> None:
    """Steps of ``normalise`` come first, and of whole numbers ``set_dtype`` makes nothing."""
    held = Held.make(tmp_path / "v1", save(tmp_path / "v1.nc", in_type("float32", [0, 1], _FillValue=np.nan).drop_vars("mean")))
    new = save(tmp_path / "new.nc", in_type("int32", [3], _FillValue=-9).drop_vars("mean"))
    scale = {"scale": {"t": {"factor": 2.0, "offset": 0.0, "units": None}}}
    with pytest.raises(DtypeMismatch, match="'t' is float64") as refusal:
        held.update(tmp_path / "refused", new, transforms=[scale])
    assert "repair" not in refusal.value.members


def test_a_series_of_both_precisions_is_stored_in_the_one_that_is_asked_for(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{n}.nc", in_type(kind, [n])) for n, kind in enumerate(("float32", "float64", "float32"))]
    said = written(tmp_path / "double", *files)
    assert "widened" in [kind for kind, _ in said["warnings"]]
    said = written(tmp_path / "single", *files, normalise=[{"set_dtype": {"t": "float32", "mean": "float32"}}])
    assert "widened" not in [kind for kind, _ in said["warnings"]]
    with ours_of(tmp_path / "double") as double, ours_of(tmp_path / "single") as single:
        assert (double.t.dtype, single.t.dtype) == (np.float64, np.float32)
        np.testing.assert_array_equal(single.t.values, double.t.values.astype("float32"))
        np.testing.assert_array_equal(single.t.values, in_type("float64", [0, 1, 2]).t.values.astype("float32"))
