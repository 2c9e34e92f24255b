"""Units: names of the same unit, and exact conversions between units of the same kind.

The table contains the units that CF files use. Other units are refused by name. A units library would accept many more than gridded
data have.
"""

from __future__ import annotations

from fractions import Fraction

_TABLE = """
K 1, degC 1 273.15, degF 5/9 45967/180
m 1, km 1000, cm 1/100, mm 1/1000, um 1/1000000, ft 0.3048
Pa 1, hPa 100, kPa 1000, bar 100000, dbar 10000
m|s-1 1, km|h-1 5/18, cm|s-1 1/100, mm|s-1 1/1000, knot 463/900
kg|m-2|s-1 1, mm|day-1 1/86400, mm|h-1 1/3600, m|day-1 1000/86400
kg|m-2 1, mm 1, cm 10, m 1000
1 1, % 1/100, kg|kg-1 1, g|kg-1 1/1000, mg|kg-1 1/1000000, ppm 1/1000000
kg 1, g 1/1000, mg 1/1000000, t 1000
W|m-2 1, kW|m-2 1000
J|m-2 1, kJ|m-2 1000, MJ|m-2 1000000
degrees 1, radian 180/3.141592653589793
"""
"""One line for each kind: each unit with its factor and offset to the first unit of the line; | is a space.

The line with kg m-2 is for depths of liquid water: 1 kg m-2 is 1 mm (1000 kg m-3).
"""


def _line(text: str) -> dict[str, tuple[Fraction, Fraction]]:
    entries = (entry.split() for entry in text.split(", "))
    return {name.replace("|", " "): (_number(factor), _number(*offset)) for name, factor, *offset in entries}


def _number(text: str = "0") -> Fraction:
    above, _, below = text.partition("/")
    return Fraction(above) / Fraction(below or 1)


_KINDS = tuple(_line(line) for line in _TABLE.strip().splitlines())

_ALIASES = {
    **dict.fromkeys(("kelvin", "degk", "deg_k", "degrees_kelvin", "degree_kelvin", "kelvins"), "K"),
    **dict.fromkeys(("degc", "deg_c", "celsius", "degree_celsius", "degrees_celsius", "degree_c", "degrees_c", "°c"), "degC"),
    **dict.fromkeys(("degf", "fahrenheit", "degree_fahrenheit", "degrees_fahrenheit", "°f"), "degF"),
    **dict.fromkeys(("metre", "metres", "meter", "meters"), "m"),
    **dict.fromkeys(("millimetre", "millimetres", "millimeter", "millimeters", "mm"), "mm"),
    **dict.fromkeys(("kilometre", "kilometres", "kilometer", "kilometers", "km"), "km"),
    **dict.fromkeys(("centimetre", "centimetres", "centimeter", "centimeters", "cm"), "cm"),
    **dict.fromkeys(("foot", "feet", "ft"), "ft"),
    **dict.fromkeys(("pascal", "pascals"), "Pa"),
    **dict.fromkeys(("hectopascal", "hectopascals", "mbar", "mb", "millibar", "millibars", "hpa"), "hPa"),
    **dict.fromkeys(("decibar", "decibars", "dbar"), "dbar"),
    **dict.fromkeys(("", "dimensionless", "none", "unitless", "fraction", "0-1", "(0 - 1)"), "1"),
    **dict.fromkeys(("percent", "pct", "percentage"), "%"),
    **dict.fromkeys(("knots", "kt", "kts", "knot"), "knot"),
    **dict.fromkeys(("m/s", "m.s-1", "m s^-1", "m*s-1", "meter second-1", "ms-1", "m s**-1", "meters/second"), "m s-1"),
    **dict.fromkeys(("km/h", "km.h-1", "km hr-1", "kph"), "km h-1"),
    **dict.fromkeys(("mm/day", "mm/d", "mm d-1", "mm day^-1", "mm.day-1", "mm d**-1", "kg m-2 day-1", "kg m-2 d-1"), "mm day-1"),
    **dict.fromkeys(("mm/h", "mm/hr", "mm hr-1", "mm hour-1", "mm h**-1"), "mm h-1"),
    **dict.fromkeys(("kg/m2/s", "kg/m^2/s", "kg m**-2 s**-1", "kg m^-2 s^-1", "kg.m-2.s-1"), "kg m-2 s-1"),
    **dict.fromkeys(("kg/m2", "kg m**-2", "kg m^-2", "kg.m-2"), "kg m-2"),
    **dict.fromkeys(("w/m2", "w m**-2", "w m^-2", "w.m-2", "watt m-2", "watts/m2"), "W m-2"),
    **dict.fromkeys(("j/m2", "j m**-2", "j m^-2"), "J m-2"),
    **dict.fromkeys(("kg/kg", "kg kg**-1"), "kg kg-1"),
    **dict.fromkeys(("g/kg", "g kg**-1"), "g kg-1"),
    **dict.fromkeys(("rad", "radians"), "radian"),
    **dict.fromkeys(("degree", "deg"), "degrees"),
    **dict.fromkeys(("degree_north", "degree_n", "degrees_n", "degreen", "degreesn"), "degrees_north"),
    **dict.fromkeys(("degree_east", "degree_e", "degrees_e", "degreee", "degreese"), "degrees_east"),
}
"""Other names of units, in lower case. The units themselves are case-sensitive (``MPa`` is not ``mPa``)."""


def canonical(text: str) -> str:
    """Return the canonical name of the unit *text*. An unknown unit is returned unchanged, with single spaces."""
    plain = " ".join(text.split())
    return _ALIASES.get(plain.lower(), plain)


def conversion(given: str, wanted: str) -> tuple[float, float] | None:
    """Return factor and offset so that ``value * factor + offset`` is in *wanted*; ``None`` if the units are of different kinds."""
    a, b = canonical(given), canonical(wanted)
    if a == b:
        return 1.0, 0.0
    for units in _KINDS:
        if a in units and b in units:
            (factor, offset), (other, other_offset) = units[a], units[b]
            return float(factor / other), float((offset - other_offset) / other)
    return None


def siblings(text: str) -> list[str]:
    """Return the units that *text* can be converted to."""
    name = canonical(text)
    return sorted({each for units in _KINDS if name in units for each in units} - {name})
