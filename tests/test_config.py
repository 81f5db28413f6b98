"""What an option takes: numbers are no words, booleans no numbers, and each refusal says what was expected."""

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from genzoo.config import Config, Strict, part
from genzoo.registry import DECODERS


class Inner(Strict):
    rate: float = Field(0.5, gt=0)


class Options(Config):
    count: int = Field(1, ge=1)
    share: float = 0.5
    on: bool = False
    pair: tuple[float, float] = (0.0, 1.0)
    sizes: list[int] = [1]
    either: int | Literal["all"] = "all"
    perhaps: int | None = None
    size: int | tuple[int, int] = 4
    place: Path = Path("x")
    decoder: part(DECODERS) = "mlp"
    inner: Inner = Inner()


TAKES = {
    "count": lambda v: type(v) in (int, float) and v >= 1 and v == int(v),
    "share": lambda v: type(v) in (int, float),
    "on": lambda v: type(v) is bool,
    "either": lambda v: v == "all" or (type(v) in (int, float) and v == int(v)),
    "perhaps": lambda v: v is None or (type(v) in (int, float) and v == int(v)),
}
VALUES = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([1.0, 0.5, 1e3, "1", "1.0", "true", "all", "x"])
)


@given(option=st.sampled_from(sorted(TAKES)), value=VALUES)
def test_numbers_are_no_words_and_booleans_no_numbers(option, value):
    try:
        made = getattr(Options.model_validate({option: value}), option)
    except ValidationError as error:
        assert not TAKES[option](value), (option, value, str(error))
        assert len(error.errors()) == 1
        return
    assert TAKES[option](value) and made == value, (option, value, made)
    assert Options.model_validate(Options(**{option: made}).model_dump(mode="json")) == Options(**{option: made})


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        ({"count": "3"}, ("count",), "expected int >= 1, not '3'"),
        ({"count": True}, ("count",), "expected int >= 1, not true"),
        ({"count": 1.5}, ("count",), "expected int >= 1, not 1.5"),
        ({"count": None}, ("count",), "expected int >= 1, not null"),
        ({"share": "0.5"}, ("share",), "expected float, not '0.5'"),
        ({"on": 1}, ("on",), "expected bool, not 1"),
        ({"pair": [0.5, "1"]}, ("pair", 1), "expected float, not '1'"),
        ({"sizes": [1, True]}, ("sizes", 1), "expected int, not true"),
        ({"either": "al"}, ("either",), "expected int | all, not 'al'"),
        ({"either": [1]}, ("either",), "expected int | all, not [1]"),
        ({"size": [4, "4"]}, ("size",), "expected int | list of int"),
        ({"perhaps": "3"}, ("perhaps",), "expected int | null, not '3'"),
        ({"inner": {"rate": "1"}}, ("inner", "rate"), "expected float > 0, not '1'"),
        ({"inner": {"rat": 1}}, ("inner", "rat"), "unknown option; did you mean 'rate'? (options: rate)"),
        ({"coutn": 3}, ("coutn",), "unknown option; did you mean 'count'?"),
        ({"decoder": {"name": "mlp", "hidden_dims": ["7"]}}, ("decoder", "hidden_dims", 0), "expected int"),
        ({"decoder": {"hidden_dim": [7]}}, ("decoder", "hidden_dim"), "unknown option; did you mean 'hidden_dims'?"),
    ],
)
def test_what_is_refused_says_what_was_expected(options, place, message):
    with pytest.raises(ValidationError) as error:
        Options.model_validate(options)
    (line,) = error.value.errors()
    assert line["loc"] == place and line["msg"].startswith(message)


def test_mistakes_of_all_kinds_are_told_together():
    wrong = {"count": 0, "share": "x", "coutn": 1, "inner": {"rate": -1, "rat": 0}}
    with pytest.raises(ValidationError) as error:
        Options.model_validate(wrong)
    assert {line["loc"] for line in error.value.errors()} == {
        ("count",), ("share",), ("coutn",), ("inner", "rate"), ("inner", "rat"),
    }  # fmt: skip


def test_options_of_a_part_that_is_not_named_are_the_default_parts():
    assert Options.model_validate({"decoder": {"hidden_dims": [7]}}).decoder.name == "mlp"
