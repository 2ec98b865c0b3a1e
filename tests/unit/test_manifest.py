"""Fingerprints: the same for the same data, whether it is held at once or not."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rait.manifest import fingerprint_of, fingerprint_of_all

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
)


@given(st.lists(values, max_size=5))
@settings(deadline=None)
def test_values_one_by_one_have_the_fingerprint_of_their_list(given_values):
    assert fingerprint_of_all(iter(given_values)) == fingerprint_of(given_values)


def test_what_differs_has_another_fingerprint():
    rows = [[], [[]], [["a"]], [["a", "b"]], [["a"], ["b"]], [["a, b"]], [["b"], ["a"]], [["ab"]], ["a"], [["é"]]]
    assert len({fingerprint_of_all(each) for each in rows}) == len(rows)
    assert fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
