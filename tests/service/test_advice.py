"""A template's refusals name what its file can say: the flags of files are refused where a template is ingested."""

from __future__ import annotations

import pytest
import yaml

from cubeport.cubes.repairs import flag
from cubeport.service.advice import of_template, of_version
from cubeport.service.templates import TemplateFields

STEPS = [
    {"sort": ["time"]},
    {"rename": {"it's": "a b"}},
    {"set_attributes": {"t": {"units": None, "comment": "a; b, (c)"}}},
]


@pytest.mark.parametrize("step", STEPS, ids=["a list", "a quote", "commas"])
def test_a_step_of_a_flag_is_a_step_of_the_template(step: dict[str, object]) -> None:
    said = of_template(f"repeat with {flag(step)}; or leave it out", "sst", {})
    before, _, rest = said.partition("normalise: ")
    line, _, after = rest.rpartition("; or leave it out")
    assert (before, after) == ("repeat with ", " (in the template sst)")
    fields = TemplateFields.model_validate({"normalise": yaml.safe_load(line)})
    assert fields.normalise == TemplateFields.model_validate({"normalise": [step]}).normalise


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("choose a group (--group)", "choose a group (group in its source) (in the template sst)"),
        ("choose one: --group a/b", "choose one: group: a/b in its source (in the template sst)"),
        ("choose the existing ones with --variables", "choose the existing ones with variables (in the template sst)"),
        ("--normalise with set_time, docs/repair.md", "normalise with set_time, docs/repair.md (in the template sst)"),
        ("leave out 'b' with --skip-bad", "leave out 'b' with --skip-bad"),
        ("accept the gap with --allow-gaps", "accept the gap with --allow-gaps"),
    ],
)
def test_flags_become_fields_unless_a_template_takes_them_too(text: str, said: str) -> None:
    assert of_template(text, "sst", {}) == said


@pytest.mark.parametrize("step", STEPS, ids=["a list", "a quote", "commas"])
def test_the_list_of_a_template_has_the_steps_that_it_has(step: dict[str, object]) -> None:
    own = TemplateFields.model_validate({"normalise": STEPS, "transforms": [{"scale": {"t": {"factor": 2}}}]})
    advice = f"convert them: {flag(step)} {flag({'kelvin_to_celsius': ['t']}, '--transform')}"
    said = of_template(advice, "sst", own.steps())
    first, _, rest = said.removeprefix("convert them: ").removesuffix(" (in the template sst)").partition(" and transforms: ")
    lines = {**yaml.safe_load(first), "transforms": yaml.safe_load(rest)}
    expected = {"normalise": [*STEPS, step], "transforms": [{"scale": {"t": {"factor": 2}}}, {"kelvin_to_celsius": ["t"]}]}
    assert TemplateFields.model_validate(lines).steps() == TemplateFields.model_validate(expected).steps()


def test_advice_that_has_all_steps_is_all_steps() -> None:
    own = TemplateFields.model_validate({"transforms": [{"deaccumulate": "t"}, {"scale": {"t": {"factor": 2}}}]}).steps()
    whole = [{"deaccumulate": {"t": {"first": "sum"}}}, {"scale": {"t": {"factor": 2}}}]
    said = of_template(f"it begins: {' '.join(flag(each, '--transform') for each in whole)}", "sst", own)
    line = yaml.safe_load(said.removeprefix("it begins: ").removesuffix(" (in the template sst)"))
    assert line == {"transforms": whole}


def test_a_warning_of_an_update_advises_all_steps_for_all_files() -> None:
    words, held = "To make them missing, repeat with --transform 'mask: {t: {below: 0}}'", {"normalise": [{"sort": ["time"]}]}
    after = "--transform 'mask: {t: {below: 0}}'"
    assert of_version(words, "sea", None) == f"To make them missing, repeat with --replace {after}"
    again = f"""ingest all files of sea again with --replace --normalise 'sort: ["time"]' {after}"""
    assert of_version(words, "sea", held) == f"To make them missing, {again}"
    assert of_version("sort them: --normalise squeeze", "sea", held) == "sort them: --normalise squeeze"
