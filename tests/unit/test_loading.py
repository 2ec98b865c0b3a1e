"""Where a model comes from, and how much of it is fetched."""

import pytest

from rait.models.loading import locate
from rait.recipe import Model


@pytest.mark.parametrize("weights", [True, False])
def test_weights_of_the_hub_are_fetched_only_where_they_are_needed(weights, tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(source, *, revision, allow_patterns):
        asked.update(source=source, revision=revision, patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)

    assert locate(Model(source="some/model", revision="v2"), weights=weights) == tmp_path
    assert (asked["source"], asked["revision"]) == ("some/model", "v2")
    assert ("*.safetensors" in asked["patterns"]) == weights
    assert {"*.json", "*.model", "*.jinja"} <= set(asked["patterns"])
