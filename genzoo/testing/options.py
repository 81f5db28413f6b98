"""Checks of a part's Config: what recipes, `genzoo show` and the JSON schema need of it."""

import json

from genzoo.annotations import annotation_of, holds_part
from genzoo.options import fields
from genzoo.testing.subject import Mismatch, Subject


def round_trip(subject: Subject) -> None:
    """Config: dumped to JSON and loaded again, it is the same"""
    dumped = json.loads(json.dumps(subject.config.model_dump(mode="json")))
    loaded = type(subject.config).model_validate(dumped)
    if loaded != subject.config:
        raise Mismatch(f"{subject.config!r}", f"{loaded!r}")


def frozen(subject: Subject) -> None:
    """Config: refuses unknown options and cannot be changed"""
    settings = type(subject.config).model_config
    if settings.get("extra") != "forbid" or not settings.get("frozen"):
        raise Mismatch("the settings of genzoo.Config (extra='forbid', frozen=True)", f"{dict(settings)}")


def described(subject: Subject) -> None:
    """Config: every option says what it means (one that holds a part: its type says it)"""
    silent = [
        option
        for option, field in fields(type(subject.config))
        if not field.description and not holds_part(annotation_of(field))
    ]
    if silent:
        raise Mismatch("Field(default, description='what it means, and its unit')", f"none for {', '.join(silent)}")


def schema(subject: Subject) -> None:
    """Config: has a JSON schema"""
    type(subject.config).model_json_schema()


CHECKS = (round_trip, frozen, described, schema)
