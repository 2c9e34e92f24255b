from pathlib import Path
from typing import Any

import pytest

from cubeport.catalog.yamlfile import parse
from cubeport.errors import InvalidConfiguration


def read(text: str) -> Any:
    return parse(text.encode(), path=Path("x.yaml"), name="config/x.yaml").value


def test_words_that_other_yaml_turns_into_something_else_stay_text() -> None:
    assert read("a: 2024-01-02\nb: on\nc: yes\nd: ${HOME}\ne: 12:30:00") == {
        "a": "2024-01-02",
        "b": "on",
        "c": "yes",
        "d": "${HOME}",
        "e": "12:30:00",
    }


def test_numbers_booleans_and_null_are_what_they_say() -> None:
    assert read("[1, -2.5, 1e3, true, false, null, ~, '']") == [1, -2.5, 1000.0, True, False, None, None, ""]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "config/x.yaml:3:1: a: duplicate key"),
        ("a:\n  b: [1", "config/x.yaml:2:"),
        ("a: !!python/object/apply:os.system ['id']", "is not allowed"),
        ("a: !include secrets", "is not allowed"),
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c]\n"
         "e: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]", "holds more than"),
    ],
)  # fmt: skip
def test_what_is_not_plain_configuration_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration, match=words.replace("[", r"\[")):
        read(text)
