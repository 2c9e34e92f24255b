"""A template's refusals name what its file can say: the flags of files are refused where a template is ingested."""

from __future__ import annotations

import pytest
import yaml

from cubeport.cubes.repairs import flag
from cubeport.service.advice import of_template
from cubeport.service.templates import TemplateFields

STEPS = [
    {"sort": ["time"]},
    {"rename": {"it's": "a b"}},
    {"set_attributes": {"t": {"units": None, "comment": "a; b, (c)"}}},
]


@pytest.mark.parametrize("step", STEPS, ids=["a list", "a quote", "commas"])
def test_a_step_of_a_flag_is_a_step_of_the_template(step: dict[str, object]) -> None:
    said = of_template(f"repeat with {flag(step)}; or leave it out", "sst")
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
    assert of_template(text, "sst") == said
