"""Which period the name of a file says."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from cubeport.cubes.calendars import CalendarName
from cubeport.cubes.placeholders import period_in


@pytest.mark.parametrize(
    ("text", "path", "calendar", "said"),
    [
        ("/a/{YYYY}/{MM}/t_{YYYY}{MM}{DD}.nc", "/a/2024/02/t_20240229.nc", "standard", "daily 2024-02-29"),
        ("in/*_{YYYY}{DOY}_*.nc", "/x/in/MOD_2024060_h18.nc", "standard", "daily 2024-02-29"),
        ("in/{YYYY}{DOY}.nc", "/x/in/2023366.nc", "standard", None),
        ("{YYYY}W{WW}.nc", "/x/2024W05.nc", "standard", "weekly 2024-W05"),
        ("{YYYY}{MM}{DEKAD}.nc", "/x/2024013.nc", "standard", "dekadal 2024-01-21"),
        ("{YYYY}{MM}p{PENTAD}.nc", "/x/202401p6.nc", "standard", "pentad 2024-01-26"),
        ("{YYYY}{MM}{DD}T{HH}.nc", "/x/20240131T18.nc", "standard", "hourly 2024-01-31T18"),
        ("tas_{YYYY}-{MM}.nc", "/x/tas_2024-01.nc", "standard", "monthly 2024-01"),
        ("[a-c]{YYYY}.nc", "/x/b1999.nc", "standard", "yearly 1999"),
        ("{YYYY}{MM}{DD}.nc", "/x/20240230.nc", "360_day", "daily 2024-02-30"),
        ("{YYYY}{MM}{DD}.nc", "/x/20240230.nc", "standard", None),
        ("{YYYY}/{YYYY}{MM}.nc", "/x/2023/202401.nc", "standard", None),
        ("{MM}.nc", "/x/01.nc", "standard", None),
        ("*.nc", "/x/20240131.nc", "standard", None),
        ("{YYYY}.nc", "/x/other/2024.txt", "standard", None),
    ],
)
def test_the_period_of_a_file_is_that_of_its_name(text: str, path: str, calendar: CalendarName, said: str | None) -> None:
    found = period_in(PurePosixPath(path), text, calendar)
    assert (None if found is None else f"{found.type} {found}") == said
