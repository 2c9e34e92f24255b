"""The one cache with a bound: what is kept never weighs more than it may, and what is used stays."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from cubeport.cubes.bounded import Bounded


@given(st.lists(st.tuples(st.sampled_from(["get", "put", "drop"]), st.integers(0, 6), st.integers(0, 5)), max_size=60))
def test_it_keeps_the_most_recently_used_within_its_weight(steps: list[tuple[str, int, int]]) -> None:
    cache: Bounded[int, str] = Bounded(8)
    model: OrderedDict[int, int] = OrderedDict()
    for act, key, weight in steps:
        match act:
            case "put":
                cache.put(key, f"{key}", weight)
                model.pop(key, None)
                model[key] = weight
                while sum(model.values()) > 8:
                    model.popitem(last=False)
            case "get":
                assert cache.get(key) == (f"{key}" if key in model else None)
                if key in model:
                    model.move_to_end(key)
            case _:
                cache.drop(key)
                model.pop(key, None)
        assert (len(cache), cache.weight) == (len(model), sum(model.values()))
        assert all(each in cache for each in model)


def test_a_value_heavier_than_everything_is_not_kept() -> None:
    cache: Bounded[str, bytes] = Bounded(3)
    cache.put("small", b"1", 2)
    cache.put("large", b"1234", 4)
    assert cache.get("large") is None
    assert cache.get("small") == b"1"
    cache.clear()
    assert (len(cache), cache.weight) == (0, 0)
