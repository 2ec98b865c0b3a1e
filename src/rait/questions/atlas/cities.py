"""Cities: the country of a city, and the state of a city of the United States. Source: GeoNames, places from 15,000.

A place is asked about when
- it has 50,000 inhabitants or more and GeoNames lists four spellings of its name or more: slips of the data have few,
- it is hardly a suburb or a district: no larger place of its country within 10 km, none twice as large within 20 km,
- its name is no other country's (for the second relation: no other state's): not that of a place of 15,000 or more,
  not an alternate name of a place of 50,000 or more, not a country's own,
- it is not contested between countries, and is among the 300 largest of its country that pass (first relation only).
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rait.questions.atlas.countries import Countries, capital_names, country_entity, country_names
from rait.questions.atlas.facts import Fact, codes, make_fact, plain
from rait.questions.atlas.names import NOT_ASKED, UK_COUNTRIES

City = Mapping[str, Any]

_LEAST_POPULATION = 50_000
_LEAST_SPELLINGS = 4
_MOST_PER_COUNTRY = 300
_NEAR_LARGER_KM = 10.0
_NEAR_TWICE_AS_LARGE_KM = 20.0
_KM_PER_DEGREE = 111.2

# First-level regions whose country is contested: Northern Cyprus, Abkhazia, Kashmir and Arunachal Pradesh, Jerusalem
# and the West Bank, Transnistria, Azad Kashmir, Somaliland, the parts of Ukraine that Russia claims, Ceuta and Melilla.
_CONTESTED = {
    "CY": ("01", "02"),
    "ES": ("CE", "ML"),
    "GE": ("02",),
    "IL": ("06", "WE"),
    "IN": ("12", "30", "41"),
    "MD": ("58", "62"),
    "PK": ("06", "07"),
    "SO": ("12", "19", "20", "21", "22"),
    "UA": ("05", "08", "11", "14", "20", "26"),
}

# Districts, provinces and the like by their own name, and spellings that are two names at once.
_NO_CITY_NAME = re.compile(
    r"[\d(/,]|^City of |\b(arrondissement|borough|camp|circoscrizione|county|delegación|district|hansestadt|huyện|"
    r"kerület|new town|province|quận|shahri|thành phố|thị trấn|xóm)\b",
    re.IGNORECASE,
)

# Looked at one by one: slips of the data (Meads, NIA Valencia, Tri-Cities); leased, divided or border land (Baikonur,
# Modi'in, Rukban); names that mean something else first, such as a county of England or ancient Troy; and Kosong and
# Hamilton, of which the data lack a second one that is no smaller.
_NOT_ASKED = frozenset(
    [
        "Atlantis",
        "Baikonur",
        "Hamilton",
        "Kent",
        "Kosong",
        "La Rioja",
        "Meads",
        "Modi'in Makkabbim Re'ut",
        "NIA Valencia",
        "Norfolk",
        "Rukban",
        "Suffolk",
        "Surrey",
        "Tri-Cities",
        "Troy",
    ]
)

# Marks in a name from these countries are a romanisation's: English writes Kashan and Ota, not Kāshān and Ōta.
_ROMANISED = codes(
    "AE AF AM BD BG BH BT BY CN CY EG ER ET GE GR IL IN IQ IR JO JP KG KH KP KR KW KZ LA LB LK LY MK MM MN MV NP OM PK "
    "QA RU SA SD SY TH TJ UA UZ YE"
)

_APOSTROPHES = str.maketrans(dict.fromkeys("`\u2018\u2019\u02bb\u02bc", "'"))


def city_facts(cities: Iterable[City], countries: Countries, states: Mapping[str, City]) -> Iterator[Fact]:
    """Yield the facts of the relations city_country and us_city_state."""
    places = sorted(cities, key=lambda city: (-city["population"], city["geonameid"]))
    is_suburb = _suburb_test(places)
    asked = [city for city in places if _is_asked(city) and not is_suburb(city)]
    yield from _country_of_city(asked, places, countries)
    yield from _state_of_city([city for city in asked if city["countrycode"] == "US"], places, states)


def _country_of_city(asked: Iterable[City], places: Iterable[City], countries: Countries) -> Iterator[Fact]:
    bearers = _bearers(places, lambda city: city["countrycode"])
    for code in countries:
        for name in country_names(code, countries):
            bearers[plain(name)].add(code)
    taken: Counter[str] = Counter()
    named = set()
    for city in asked:
        code, name = city["countrycode"], display_name(city)
        answers = country_names(code, countries)
        unambiguous = bearers[plain(name)] == {code} and plain(name) not in named
        part_of_the_answer = plain(name) in plain(answers[0])
        if code in NOT_ASKED or not unambiguous or part_of_the_answer or taken[code] == _MOST_PER_COUNTRY:
            continue
        named.add(plain(name))
        taken[code] += 1
        if code == "GB":
            answers += (UK_COUNTRIES[city["admin1code"]],)
        text = f"Which country is {_in_a_sentence(name)} in?"
        yield make_fact("city_country", str(city["geonameid"]), _entity(city, countries), text, answers)


def _state_of_city(asked: Iterable[City], places: Iterable[City], states: Mapping[str, City]) -> Iterator[Fact]:
    bearers = _bearers((city for city in places if city["countrycode"] == "US"), lambda city: city["admin1code"])
    named = set()
    for city in asked:
        name, state = display_name(city), city["admin1code"]
        if state == "DC" or bearers[plain(name)] != {state} or plain(name) in named:
            continue
        named.add(plain(name))
        text = f"Which US state is {_in_a_sentence(name)} in?"
        yield make_fact("us_city_state", str(city["geonameid"]), _city_entity(city), text, [states[state]["name"]])


def display_name(city: City) -> str:
    """Return the city's name as English text would show it."""
    name: str = city["name"].translate(_APOSTROPHES)
    if city["countrycode"] not in _ROMANISED:
        return name
    if "'" in name:
        name = re.sub(r"(?<!\w)'|'(?!\w)", "", name)
    if city["countrycode"] in ("JP", "KP", "KR"):
        name = re.sub(r"-(si|gun|ŭp|ri|ni|dong|nodongjagu|shi)$", "", name)
    if name.isascii():
        return name
    return "".join(mark for mark in unicodedata.normalize("NFKD", name) if not unicodedata.combining(mark))


def _is_asked(city: City) -> bool:
    return (
        city["population"] >= _LEAST_POPULATION
        and len(city["alternatenames"]) >= _LEAST_SPELLINGS
        and not _NO_CITY_NAME.search(city["name"])
        and display_name(city) not in _NOT_ASKED
        and city["admin1code"] not in _CONTESTED.get(city["countrycode"], ())
    )


def _entity(city: City, countries: Countries) -> str:
    """Return the city's entity; a capital shares its country's, because its country and its capital are one fact."""
    code = city["countrycode"]
    capitals = {plain(name) for name in (*capital_names(code, countries), countries[code]["capital"])}
    return country_entity(code) if plain(city["name"]) in capitals else _city_entity(city)


def _city_entity(city: City) -> str:
    return f"city/{city['geonameid']}"


def _in_a_sentence(name: str) -> str:
    return name if name.endswith((" City", " city")) else f"the city of {name}"


def _bearers(places: Iterable[City], region: Callable[[City], str]) -> dict[str, set[str]]:
    """Return the regions that have a place of each plain name, or a big place with that alternate name."""
    bearers: dict[str, set[str]] = defaultdict(set)
    for city in places:
        bearers[plain(display_name(city))].add(region(city))
        if city["population"] >= _LEAST_POPULATION:
            # GeoNames lists the plain spelling of an accented name as well, so that the plain ones are enough.
            for name in filter(str.isascii, city["alternatenames"]):
                bearers[plain(name)].add(region(city))
    return bearers


def _suburb_test(places: Iterable[City]) -> Callable[[City], bool]:
    """Return a function that says whether a city is likely a suburb or a district of a larger place."""
    cells: dict[tuple[int, int], list[City]] = defaultdict(list)
    for city in places:
        if city["population"] >= _LEAST_POPULATION:
            cells[_cell(city)].append(city)

    def is_suburb(city: City) -> bool:
        row, column = _cell(city)
        around = (cells.get((row + i, column + j), ()) for i in (-1, 0, 1) for j in (-1, 0, 1))
        return any(_overshadows(other, city) for cell in around for other in cell)

    return is_suburb


def _overshadows(other: City, city: City) -> bool:
    if other["countrycode"] != city["countrycode"]:
        return False
    if (other["population"], other["geonameid"]) <= (city["population"], city["geonameid"]):
        return False
    twice = other["population"] >= 2 * city["population"]
    return _kilometres(city, other) <= (_NEAR_TWICE_AS_LARGE_KM if twice else _NEAR_LARGER_KM)


def _cell(city: City) -> tuple[int, int]:
    return math.floor(city["latitude"] * 2), math.floor(city["longitude"])


def _kilometres(one: City, other: City) -> float:
    """Return the distance of two near places, for which the earth is flat enough."""
    north = one["latitude"] - other["latitude"]
    east = (one["longitude"] - other["longitude"]) * math.cos(math.radians(one["latitude"]))
    return _KM_PER_DEGREE * math.hypot(north, east)
