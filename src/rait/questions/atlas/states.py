"""States of the United States: postal abbreviations. Source: GeoNames' table of states."""

from collections.abc import Iterator, Mapping
from typing import Any

from rait.questions.atlas.facts import Fact, make_fact


def state_facts(states: Mapping[str, Mapping[str, Any]]) -> Iterator[Fact]:
    """Yield the facts of the relation us_state_abbreviation; the District of Columbia is no state."""
    for code in sorted(states.keys() - {"DC"}):
        text = f"Which two-letter postal abbreviation stands for {states[code]['name']}?"
        yield make_fact("us_state_abbreviation", code, f"state/{code}", text, [code])
