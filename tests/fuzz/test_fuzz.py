"""Every harness of the fuzzer, for some seconds; and what each of them begins with."""

from importlib.util import find_spec

import pytest

from fuzz.run import NAMES, fuzz
from fuzz.seeds import seeds
from fuzz.targets import TARGETS


def test_every_target_can_be_named():
    assert list(TARGETS) == list(NAMES)


@pytest.mark.parametrize("target", NAMES)
def test_what_it_begins_with_holds(tmp_path, target):
    count = seeds(target, tmp_path)
    files = list(tmp_path.iterdir())

    assert count == len(files) > 0
    for file in files:
        TARGETS[target](file.read_bytes())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: pip install atheris")
@pytest.mark.parametrize("target", NAMES)
def test_it_holds_for_some_seconds(target):
    held, said = fuzz(target, 5, seed=1)

    assert held, said
