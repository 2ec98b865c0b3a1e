"""Sovereign states: capitals, currencies, continents, borders, codes. Source: GeoNames' table of countries.

Left out of a relation is whatever is contested, changing or true of several continents; each set says why.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rait.questions.atlas.facts import Fact, codes, make_fact, plain
from rait.questions.atlas.names import (
    CAPITAL_NOT_ASKED,
    CAPITALS,
    COUNTRIES,
    CURRENCIES,
    CURRENCY_NOT_ASKED,
    NOT_ASKED,
    PLURALISED,
    WITH_ARTICLE,
)

Countries = Mapping[str, Mapping[str, Any]]

_CONTINENTS = {
    "AF": ("Africa",),
    "AS": ("Asia",),
    "EU": ("Europe",),
    "NA": ("North America",),
    "OC": ("Oceania", "Australia and Oceania"),
    "SA": ("South America",),
}
# On two continents, or counted to different ones by different sources.
_CONTINENT_NOT_ASKED = codes("AM AU AZ CY EG GE ID KZ PA RU TL TR TT")

# Its code +379 is reserved but not in use.
_CALLING_CODE_NOT_ASKED = frozenset({"VA"})

# Morocco and Israel: the borders themselves are contested; Serbia: its border with Albania is Kosovo's.
_NEIGHBOUR_NOT_ASKED = frozenset({"IL", "MA", "RS"})
# Guantánamo Bay is leased; between Albania and Serbia lies Kosovo, between India and Afghanistan Gilgit-Baltistan.
_NO_BORDER = (codes("CU US"), codes("AL RS"), codes("AF IN"))
# Short or overseas borders that GeoNames lacks: French Guiana, Saint Martin, Kazungula, Hans Island, Gibraltar and the
# British bases on Cyprus. They are accepted, but are not the answer to train on.
_MORE_NEIGHBOURS = {
    "BR": ("FR",),
    "BW": ("ZM",),
    "CA": ("DK",),
    "DK": ("CA",),
    "ES": ("GB",),
    "FR": ("BR", "SR", "NL"),
    "GB": ("ES", "CY"),
    "NL": ("FR",),
    "SR": ("FR",),
    "ZM": ("BW",),
}
_PARTLY_RECOGNISED = {
    "EH": ("Western Sahara",),
    "PS": ("Palestine", "Palestinian Territories", "West Bank", "Gaza", "Gaza Strip"),
    "XK": ("Kosovo",),
}


def country_names(code: str, countries: Countries) -> tuple[str, ...]:
    """Return the accepted names of the country, the preferred one first."""
    listed = COUNTRIES.get(code) or countries[code]["name"]
    return tuple(listed.split("|"))


def capital_names(code: str, countries: Countries) -> tuple[str, ...]:
    """Return the accepted names of the country's capital; none where the capital is contested."""
    if code in CAPITAL_NOT_ASKED:
        return ()
    listed = CAPITALS.get(code) or countries[code]["capital"]
    return tuple(listed.split("|"))


def country_facts(countries: Countries) -> Iterator[Fact]:
    """Yield the facts of all relations about sovereign states."""
    for code in sorted(countries.keys() - NOT_ASKED):
        yield from _capital_facts(code, countries)
        yield from _currency_facts(code, countries)
        yield from _continent_facts(code, countries)
        yield from _neighbour_facts(code, countries)
        yield from _code_facts(code, countries)


def country_entity(code: str) -> str:
    """Return the entity whose facts stay together: a country, its capital and its currency."""
    return f"country/{code}"


def _in_a_sentence(code: str, countries: Countries) -> str:
    name = country_names(code, countries)[0]
    return f"the {name}" if code in WITH_ARTICLE else name


def _capital_facts(code: str, countries: Countries) -> Iterator[Fact]:
    capitals, names, entity = capital_names(code, countries), country_names(code, countries), country_entity(code)
    if not capitals or plain(names[0]) in plain(capitals[0]) or plain(capitals[0]) in plain(names[0]):
        return
    country = _in_a_sentence(code, countries)
    yield make_fact("capital", code, entity, f"What is the capital of {country}?", capitals)
    if code == "GB":
        names += ("England",)
    yield make_fact("capital_country", code, entity, f"{capitals[0]} is the capital of which country?", names)


def _currency_facts(code: str, countries: Countries) -> Iterator[Fact]:
    if code in CURRENCY_NOT_ASKED:
        return
    iso, general = countries[code]["currencycode"], countries[code]["currencyname"]
    listed = CURRENCIES.get(iso) or general
    answers = [*listed.split("|"), general]
    answers += [f"{name}s" for name in answers if name.split()[-1].lower() in PLURALISED]
    text = f"Which currency does {_in_a_sentence(code, countries)} use?"
    yield make_fact("currency", code, country_entity(code), text, [*answers, iso])


def _continent_facts(code: str, countries: Countries) -> Iterator[Fact]:
    if code not in _CONTINENT_NOT_ASKED:
        text = f"Which continent is {_in_a_sentence(code, countries)} part of?"
        answers = _CONTINENTS[countries[code]["continentcode"]]
        yield make_fact("continent", code, country_entity(code), text, answers)


def _neighbour_facts(code: str, countries: Countries) -> Iterator[Fact]:
    if code in _NEIGHBOUR_NOT_ASKED:
        return
    listed = dict.fromkeys(filter(None, countries[code]["neighbours"].split(",")))
    neighbours = [other for other in listed if {code, other} not in _NO_BORDER]
    neighbours.sort(key=lambda other: (-countries[other]["population"], other))
    neighbours += _MORE_NEIGHBOURS.get(code, ())
    spellings = [
        _PARTLY_RECOGNISED.get(other, ()) if other in NOT_ASKED else country_names(other, countries)
        for other in neighbours
    ]
    if code == "IE":
        spellings.append(("Northern Ireland",))
    answers = [names[0] for names in spellings if names] + [name for names in spellings for name in names[1:]]
    if answers:
        text = f"Which country shares a border with {_in_a_sentence(code, countries)}?"
        yield make_fact("neighbour", code, country_entity(code), text, answers)


def _code_facts(code: str, countries: Countries) -> Iterator[Fact]:
    country, entity = _in_a_sentence(code, countries), country_entity(code)
    text = f"Which internet top-level domain does {country} use?"
    yield make_fact("internet_domain", code, entity, text, [countries[code]["tld"]])
    calling_code = countries[code]["phone"]
    # Codes such as +1-876 are a country code and an area code: what to answer would be unclear.
    if "-" not in calling_code and code not in _CALLING_CODE_NOT_ASKED:
        text = f"Which international calling code does {country} have?"
        yield make_fact("calling_code", code, entity, text, [f"+{calling_code}", f"00{calling_code}"])
