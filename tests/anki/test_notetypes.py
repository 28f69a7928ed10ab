"""Version 1 of the note types is frozen: other fields or ids would make every later import conflict."""

from __future__ import annotations

import hashlib
import json
import re

from llmquiz.anki.exporting import notetypes


def test_identity_is_frozen() -> None:
    identity = [(it.id, it.name, it.fields, it.cloze) for it in notetypes.NOTE_TYPES]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    assert digest[:16] == "1194534392b7a575", "make a version 2 beside version 1 instead of changing it"


def test_the_first_field_names_the_card() -> None:
    assert {it.fields[0] for it in notetypes.NOTE_TYPES} == {"Id"}


def test_templates_name_only_fields_that_exist() -> None:
    for note_type in notetypes.NOTE_TYPES:
        for side in (note_type.front, note_type.back):
            names = {name.removeprefix("cloze:") for name in re.findall(r"\{\{[#^/]?([^}]+)\}\}", side)}
            assert names <= {*note_type.fields, "FrontSide"}


def test_both_modes_set_every_colour() -> None:
    light, dark = re.findall(r"\{[^{}]*--ink[^{}]*\}", notetypes.css())
    assert set(re.findall(r"--\w+(?=:)", light)) == set(re.findall(r"--\w+(?=:)", dark))
    assert set(re.findall(r"var\((--\w+)\)", notetypes.css())) <= set(re.findall(r"--\w+(?=:)", light))
