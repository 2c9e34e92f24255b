"""Recipes: what they bind, the keys of the datamanifest specification, and reductions in time against pandas and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from cubeport.cubes import periods
from cubeport.cubes.calendars import CalendarName, Stamp
from cubeport.cubes.recipes import RECIPES, key_of, param_hash, recipe_of
from cubeport.cubes.reduction import by_month, by_period, departures, method_of, reduce
from cubeport.errors import InvalidRequest, NoData


def plain(data: Any, other: Any, *, window: int, weight: float = 0.5, note: str | None = None) -> Any:
    """Return something.

    More words.
    """
    return data, other, window, weight, note


@pytest.mark.parametrize(
    ("table", "hashed"),
    [
        # The vectors of the specification (spec-v5.9): text and lists, floats, and no parameter.
        (
            {"skip_models": ["CESM.*", "FGOALS.*"], "grid": "5x5"},
            "83425a30d111562d46c1fce9de7618ea7f1f54e1be72e086cba0ac63c6f2ce9b",
        ),
        (
            {"threshold": 1.0, "grid": "5x5", "sigma": 0.5},
            "acc37c631f4f18aa8de978cdff239c8a3278d80ea9c19389fd1a5cc0326ea30e",
        ),
        ({}, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    ],
)
def test_a_key_is_that_of_the_datamanifest_specification(table: dict[str, Any], hashed: str) -> None:
    assert param_hash(table) == hashed


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), {"a": [None]}, {1: "a"}, object()])
def test_what_the_specification_has_no_form_of_has_no_key(value: Any) -> None:
    with pytest.raises(ValueError, match="key"):
        param_hash({"a": value})


def test_defaults_are_part_of_a_key_and_nothing_else_is() -> None:
    normal = RECIPES["normal"]
    said, default = normal.bind({"start": 1991, "end": 2020, "least": 0.8}), normal.bind({"end": 2020, "start": 1991})
    assert said == default == {"start": 1991, "end": 2020, "least": 0.8}
    inputs = {"data": ("tas", "d" * 64)}
    assert key_of(said, inputs) == key_of(default, inputs)
    assert len({key_of(said, inputs), key_of({**said, "least": 0.9}, inputs), key_of(said, {"data": ("tas", "e" * 64)})}) == 3
    assert normal.named(["tas"]) == normal.named({"data": "tas"}) == {"data": "tas"}
    for wrong in ([], ["a", "b"], {"other": "a"}):
        with pytest.raises(InvalidRequest):
            normal.named(wrong)


@pytest.mark.parametrize(
    ("recipe", "given"),
    [
        ("normal", {}),
        ("normal", {"start": 2000, "end": 1990}),
        ("normal", {"start": 1991, "end": 2020, "least": 0}),
        ("normal", {"start": 1991, "end": 2020, "more": 1}),
        ("anomaly", {"start": 1991, "end": 2020, "departure": "half"}),
        ("resample", {"period_type": "fortnightly"}),
        ("resample", {"period_type": "irregular"}),
        ("resample", {"period_type": "monthly", "method": "median"}),
    ],
)
def test_parameters_that_a_recipe_cannot_take_are_refused(recipe: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        RECIPES[recipe].bind(given)
    assert caught.value.errors


def test_a_plugins_function_is_a_recipe_by_its_signature() -> None:
    recipe = recipe_of("smooth", plain, ("data", "other"))
    assert recipe.function == f"{__name__}:plain"
    assert recipe.bind({"window": 3}) == {"window": 3, "weight": 0.5}, "what has no value has no place in a key"
    with pytest.raises(InvalidRequest):
        recipe.bind({"window": "wide"})
    assert recipe.to_mapping()["says"] == "Return something."
    assert {each["name"]: each["required"] for each in recipe.to_mapping()["parameters"]} == {
        "window": True,
        "weight": False,
        "note": False,
    }

    def local(data: Any) -> Any:
        return data

    for function, inputs in ((local, ("data",)), (plain, ("data",)), (recipe_of, ("name",))):
        with pytest.raises(ValueError, match="recipe"):
            recipe_of("x", function, inputs)


def days(first: str, count: int) -> tuple[list[Stamp], pd.DatetimeIndex]:
    index = pd.date_range(first, periods=count)
    return [Stamp(each.year, each.month, each.day) for each in index], index


def test_resampling_gives_the_values_of_pandas() -> None:
    stamps, index = days("2019-12-20", 120)
    values = np.random.default_rng(2).random((120, 3))
    values[40, 1] = np.nan
    groups = by_period(stamps, "daily", "monthly", "standard", partial=False)
    assert [str(each) for each in groups.starts] == ["2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z", "2020-03-01T00:00:00Z"]
    assert groups.expected.tolist() == [31, 29, 31]
    frame = pd.DataFrame(values, index).resample("MS")
    for method, expected in (("mean", frame.mean()), ("sum", frame.sum()), ("maximum", frame.max()), ("minimum", frame.min())):
        found = reduce(values, groups, method, least=0.9)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected.loc["2020-01":"2020-03"].to_numpy(), rtol=1e-12)  # type: ignore[misc]
    whole = reduce(values, groups, "mean", least=1.0)
    assert np.isnan(whole[0, 1])
    assert not np.isnan(whole[[1, 2]]).any()
    kept = by_period(stamps, "daily", "monthly", "standard", partial=True)
    assert len(kept.starts) == 5


@pytest.mark.parametrize(
    ("target", "calendar", "expected"), [("dekadal", "360_day", [10] * 3), ("pentad", "noleap", [5] * 5 + [3])]
)
def test_periods_of_other_calendars_have_their_own_lengths(target: str, calendar: CalendarName, expected: list[int]) -> None:
    first = periods.of(Stamp(2001, 2, 1), "daily", calendar)
    stamps = [periods.start_of(first + n, "daily", calendar) for n in range(sum(expected))]
    assert by_period(stamps, "daily", target, calendar, partial=False).expected.tolist() == expected


def test_a_finer_or_an_empty_period_is_refused() -> None:
    stamps, _ = days("2020-01-05", 10)
    with pytest.raises(InvalidRequest, match="not finer"):
        by_period(stamps, "daily", "daily", "standard", partial=False)
    with pytest.raises(NoData):
        by_period(stamps, "daily", "monthly", "standard", partial=False)


def test_a_normal_is_the_mean_of_its_months_and_an_anomaly_what_is_left() -> None:
    stamps, index = days("1990-01-01", 5 * 365)
    values = np.random.default_rng(3).random((len(stamps), 2)) + index.month.to_numpy()[:, None]
    groups = by_month(stamps, 1991, 1993, source_type="daily", calendar="standard")
    normal = reduce(values, groups, "mean", least=0.8)
    frame = pd.DataFrame(values, index).loc["1991":"1993"]  # type: ignore[misc]
    np.testing.assert_allclose(normal, frame.groupby(frame.index.month).mean().to_numpy(), rtol=1e-12)  # type: ignore[attr-defined]
    assert groups.expected.tolist()[:2] == [93, 28 + 29 + 28]
    months = index.month.to_numpy() - 1
    left = departures(values, months, normal, percent=False)
    np.testing.assert_allclose(left + normal[months], values)
    percent = departures(values, months, np.where(normal < 2, 0.0, normal), percent=True)
    assert np.isnan(percent[months == 0]).all()
    np.testing.assert_allclose(percent[months == 5], (100 * left / normal[months])[months == 5])
    # Of ten years asked for, three are there: less than 80 %.
    assert np.isnan(reduce(values, by_month(stamps, 1985, 1993, source_type="daily", calendar="standard"), "mean", least=0.8)).all()
    with pytest.raises(NoData):
        by_month(stamps, 1950, 1960, source_type="daily", calendar="standard")


@pytest.mark.parametrize(
    ("said", "method"),
    [
        ("time: mean", "mean"),
        ("area: mean time: sum (interval: 1 hour)", "sum"),
        ("time: lat: maximum", "maximum"),
        ("time: maximum within days time: mean", "mean"),
        ("time: point", None),
        ("area: mean", None),
        ("", None),
    ],
)
def test_cell_methods_say_how_longer_periods_are_made(said: str, method: str | None) -> None:
    if method is None:
        with pytest.raises(InvalidRequest, match=r"cell_methods|point"):
            method_of("t", {"cell_methods": said}, "time", "cell_methods")
    else:
        assert method_of("t", {"cell_methods": said}, "time", "cell_methods") == method
    assert method_of("t", {"cell_methods": said}, "time", "minimum") == "minimum"
