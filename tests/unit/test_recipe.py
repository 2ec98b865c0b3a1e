"""The recipe: YAML and overrides in, one typed object out, and what wrong keys and values get."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from rait.errors import RecipeError
from rait.recipe import (
    Construction,
    Evaluation,
    Model,
    Probe,
    Prompt,
    Questions,
    Recipe,
    Rehearsal,
    Tuning,
    bundled_recipes,
    check_recipe,
    dump_recipe,
    load_recipe,
    load_settings,
)


@pytest.fixture
def load(tmp_path):
    """Load a recipe from its text."""

    def load_text(text, *overrides):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_recipe(path, overrides)

    return load_text


@pytest.fixture
def problems(load, tmp_path):
    """The lines of the error that a recipe gets, with FILE for its path."""

    def problems_of(text, *overrides):
        with pytest.raises(RecipeError) as failure:
            load(text, *overrides)
        return [line.strip() for line in str(failure.value).replace(str(tmp_path / "recipe.yaml"), "FILE").splitlines()]

    return problems_of


# --- what is read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_an_empty_recipe_is_the_defaults(load, text):
    assert load(text) == Recipe() == load_settings({})
    assert Recipe().tests == {"id": Questions(split="test"), "ood": Questions(split="ood")}


def test_the_paper_is_the_default():
    assert (Probe().samples, Probe().temperature, Probe().max_new_tokens, Prompt().shots) == (10, 1.0, 50, 3)
    assert (Construction().threshold, Construction().vanilla, Construction().idk) == (0.5, 8000, 2000)
    assert (Construction().flow_rule, Construction().dead_band, Construction().shortage) == ("negative", 0.0, "fail")
    assert (Rehearsal().correctness, Rehearsal().certainty, Rehearsal().size) == (None, None, 1000)  # 0.995, see select
    assert (Tuning().epochs, Tuning().batch_size, Tuning().schedule, Tuning().warmup) == (3.0, 16, "cosine", 0.03)
    assert (Tuning().max_grad_norm, Tuning().max_length) == (1.0, 2048)


def test_a_recipe_states_what_differs(load):
    recipe = load("seed: 7\nprobe: {samples: 20}\nrehearsal:\n  tuning:\n    learning_rate: 2e-5\n")

    assert recipe == Recipe(seed=7, probe=Probe(samples=20), rehearsal=Rehearsal(tuning=Tuning(learning_rate=0.00002)))


def test_the_embedded_default():
    recipe = load_recipe()

    assert recipe == load_recipe("default")
    assert (recipe.questions.limit, recipe.rehearsal.size) == (3500, 200)
    assert (recipe.construction.vanilla, recipe.construction.idk) == (400, 100)
    assert recipe.tests == {"id": Questions(split="test", limit=400), "ood": Questions(split="ood", limit=400)}
    assert (recipe.probe.max_new_tokens, recipe.evaluation.max_new_tokens) == (16, 16)


def test_every_bundled_recipe_loads_and_begins_with_what_it_is():
    known = bundled_recipes()

    assert "default" in known
    for name, sentence in known.items():
        assert isinstance(load_recipe(name), Recipe)
        assert sentence.endswith(".")
        assert not sentence.startswith("#")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=3", "seed", 3),
        ("tuning.learning_rate=2e-4", "tuning.learning_rate", 0.0002),
        ("tuning.learning_rate=1E-5", "tuning.learning_rate", 0.00001),
        ("rehearsal.tuning.epochs=1", "rehearsal.tuning.epochs", 1.0),
        ("strategies=[craft, wo_cer]", "strategies", ("craft", "wo_cer")),
        ("tuning.lora_targets=[q_proj, v_proj]", "tuning.lora_targets", ("q_proj", "v_proj")),
        ("tuning.lora_targets=all-linear", "tuning.lora_targets", "all-linear"),
        ("questions.limit=null", "questions.limit", None),
        ("questions.limit=", "questions.limit", None),
        ("model.revision=12345e6", "model.revision", "12345e6"),
        ("prompt.refusal='a = b: [c'", "prompt.refusal", "a = b: [c"),
        ("prompt.instruction=''", "prompt.instruction", ""),
        ("probe={samples: 4}", "probe", Probe(samples=4)),
        ("tests.mine.source=q.jsonl", "tests.mine", Questions(source="q.jsonl")),
    ],
)
def test_an_override_sets_one_key(load, override, key, value):
    recipe = load("questions: {limit: 9}\nprobe: {shard: 7}\n", override)

    found = recipe
    for part in key.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value
    assert type(found) is type(value)
    if not key.startswith("probe"):
        assert recipe.probe == Probe(shard=7)


def test_later_overrides_win(load):
    recipe = load("probe: {samples: 3}", "probe.samples=4", "probe.shard=9", "probe.samples=5")

    assert recipe.probe == Probe(samples=5, shard=9)


def test_settings_of_a_command_are_options_then_overrides():
    recipe = load_settings({"model.source": "m", "questions.source": "q.csv"}, ["questions.limit=3", "model.source=n"])

    assert recipe == Recipe(model=Model(source="n"), questions=Questions(source="q.csv", limit=3))


# --- test sets ----------------------------------------------------------------------------------------------------

ID, OOD = Questions(split="test"), Questions(split="ood")


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("", ["tests.id.limit=5"], {"id": Questions(split="test", limit=5), "ood": OOD}),
        ("", ["tests.mine.source=q.jsonl"], {"id": ID, "ood": OOD, "mine": Questions(source="q.jsonl")}),
        ("", ["tests.ood.split=validation"], {"id": ID, "ood": Questions(split="validation")}),
        ("", ["tests={ood: {limit: 5}}"], {"ood": Questions(split="ood", limit=5)}),
        ("tests: {ood: {}}", [], {"ood": OOD}),
        ("tests: {id: {limit: 4}}", [], {"id": Questions(split="test", limit=4)}),
        ("tests: {id: {limit: 4}}", ["tests.id.limit=5"], {"id": Questions(split="test", limit=5)}),
        ("tests: {id: {split: dev}}", ["tests.id.limit=5"], {"id": Questions(split="dev", limit=5)}),
        ("tests: {id: {}}", ["tests.ood.limit=5"], {"id": ID, "ood": Questions(split="ood", limit=5)}),
        ("tests: {mine: {source: q.jsonl}}", [], {"mine": Questions(source="q.jsonl")}),
        ("tests: {mine: {source: q.jsonl}}", ["tests.mine.limit=5"], {"mine": Questions(source="q.jsonl", limit=5)}),
    ],
)  # fmt: skip
def test_test_sets_of_a_file_replace_the_defaults_and_overrides_change_one_key(load, text, overrides, expected):
    assert load(text, *overrides).tests == expected


def test_an_override_leaves_the_caller_and_the_defaults_alone(load):
    data = {"probe": {"samples": 3}, "tests": {"id": {"limit": 4}}}
    shared = "probe: &p {samples: 3}\nrehearsal: {tuning: &t {epochs: 2}}\ntuning: *t\n"

    assert check_recipe(data, "here").tests == {"id": Questions(split="test", limit=4)}
    assert data == {"probe": {"samples": 3}, "tests": {"id": {"limit": 4}}}
    assert load(shared, "tuning.epochs=5").rehearsal.tuning == Tuning(epochs=2)
    load("", "tests.id.limit=5").tests.clear()
    assert load("") == Recipe()
    assert load("").tests == {"id": ID, "ood": OOD}


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("modle: {}", "modle", "did you mean model?"),
        ("probe: {sampels: 3}", "probe.sampels", "did you mean probe.samples?"),
        ("rehearsal: {tuning: {lora_r: 8}}", "rehearsal.tuning.lora_r", "did you mean rehearsal.tuning.lora_rank?"),
        ("tests: {mine: {limt: 8}}", "tests.mine.limt", "did you mean tests.mine.limit?"),
        ("samples: 3", "samples", "did you mean probe.samples?"),
        ("probe: {learningrate: 3}", "probe.learningrate", "did you mean rehearsal.tuning.learning_rate?"),
        ("model: {xyzzy: 3}", "model.xyzzy", "known here: source, revision, dtype"),
    ],
)
def test_an_unknown_key_names_the_nearest(problems, text, key, hint):
    assert problems(text) == ["the settings of FILE are not valid:", f"{key}: unknown key; {hint}"]


NOT_TEXT = "should be text (in quotes where YAML takes it for something else)"
NOT_A_LIST = "should be a list such as [a, b]"
NOT_WHOLE = "should be a valid integer, unable to parse string as an integer"


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("seed: -1", "seed", "should be greater than or equal to 0, found -1"),
        ("probe: {samples: many}", "probe.samples", f"{NOT_WHOLE}, found 'many'"),
        ("seed: " + "x" * 99, "seed", f"{NOT_WHOLE}, found '" + "x" * 56 + "..."),
        ("tuning: {epochs: .inf}", "tuning.epochs", "should be a finite number, found inf"),
        ("tuning: {learning_rate: nan}", "tuning.learning_rate", "should be a finite number, found 'nan'"),
        ("tuning: {method: qlora}", "tuning.method", "should be 'lora' or 'full', found 'qlora'"),
        ("prompt: {refusal: No}", "prompt.refusal", f"{NOT_TEXT}, found False"),
        ("model: gpt2", "model", "should have keys (source, revision, dtype), found 'gpt2'"),
        ("model:", "model", "should have keys (source, revision, dtype), found None"),
        ("tests: {id: 5}", "tests.id", f"should have keys ({', '.join(Questions.model_fields)}), found 5"),
        ("tests: [id]", "tests", "should be names with keys, found ['id']"),
        ("tests: {}", "tests", "should not be empty, found {}"),
        ("tests: {a b: {}}", "tests.a b", "should be a name of letters, digits, - and _, found 'a b'"),
        ("tests: {train: {}}", "tests", "a test set must not be named train, which is taken in the run folder"),
        *(
            (
                f"tests: {{{name}: {{}}}}",
                "tests",
                f"a test set must not be named {name}, which is taken in the run folder",
            )
            for name in ("over_refusal", "conflicts", "report", "dial", "calibration", "seed-1")
        ),
        ("strategies: [export]", "strategies", "a strategy must not be named export, which is taken in the run folder"),
        ("strategies: craft", "strategies", f"{NOT_A_LIST}, found 'craft'"),
        ("strategies: [a, ../x]", "strategies.1", "should be a name of letters, digits, - and _, found '../x'"),
        ("strategies: [craft, craft]", "strategies", "a strategy is named twice"),
        ("construction: {vanilla: 0, idk: 0}", "construction", "vanilla and idk must not both be 0"),
        ("tuning: {lora_targets: 5}", "tuning.lora_targets", f"{NOT_TEXT}, found 5; or {NOT_A_LIST}, found 5"),
        ("1: 2", "1", "Keys should be strings, found 1"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(problems, text, key, problem):
    assert problems(text) == ["the settings of FILE are not valid:", f"{key}: {problem}"]


def test_all_problems_of_file_and_overrides_are_told_at_once(problems):
    found = problems(
        "sede: 1\nprobe: {samples: 1}\ntests: {id: {limit: 0}}\n",
        "tuning.epochs=0",
        "seed",
        "=3",
        "probe..samples=3",
        "seed=[",
        "seed=2020-13-45",
        "construction.idc=3",
    )

    assert found[0] == "the settings of FILE with overrides are not valid:"
    assert sorted(found[1:]) == sorted(
        [
            "'seed' must have the form key=value, such as probe.samples=20",
            "'=3' must have the form key=value, such as probe.samples=20",
            "'probe..samples=3' must have the form key=value, such as probe.samples=20",
            "'seed=[': the value is not valid YAML; put a text with special signs in quotes",
            "'seed=2020-13-45': the value is not valid YAML; put a text with special signs in quotes",
            "tests.id.limit: should be greater than or equal to 1, found 0",
            "probe.samples: should be greater than or equal to 2, found 1",
            "construction.idc: unknown key; did you mean construction.idk?",
            "tuning.epochs: should be greater than 0, found 0",
            "sede: unknown key; did you mean seed?",
        ]
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("seed: 1\nprobe: {samples: 3\n", "FILE:3: not valid YAML: expected ',' or '}', but got '<stream end>'"),
        ("seed: 1\n\tprobe: 2", "FILE:2: not valid YAML: found character '\\t' that cannot start any token"),
        ("seed: 1\n---\nseed: 2", "FILE:2: not valid YAML: but found another document"),
        (b"seed: 1\nprompt: {refusal: caf\xe9}", "FILE:2: not UTF-8 text; save the file as UTF-8"),
        ("seed: 2020-13-45", "FILE cannot be read as YAML: month must be in 1..12; check what stands there"),
        ("- seed", "FILE: a recipe is a mapping of keys, found list"),
        ("seed", "FILE: a recipe is a mapping of keys, found str"),
    ],
)
def test_what_is_no_recipe_is_told_with_its_line(problems, text, error):
    assert problems(text) == [error]


def test_a_key_that_stands_twice_is_told(problems):
    assert problems("seed: 1\nprobe:\n  samples: 3\n  samples: 4\nseed: 2\n") == [
        "FILE has keys twice; keep one of each:",
        "line 4: samples",
        "line 5: seed",
    ]


def test_an_unknown_recipe_names_the_known_ones(tmp_path):
    with pytest.raises(
        RecipeError, match=r"^no recipe 'defualt': neither a file nor one of .*default.*did you mean 'default'\?"
    ):
        load_recipe("defualt")
    with pytest.raises(RecipeError, match=r"neither a file nor one of .*; see `rait recipes`"):
        load_recipe(tmp_path)
    with pytest.raises(RecipeError, match="did you mean 'default'"):
        load_recipe("default.yml")


# --- the object ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [Recipe(), *(getattr(Recipe(), name) for name in ("model", "probe", "construction"))])
def test_settings_are_frozen_and_take_no_unknown_key(part):
    for name in type(part).model_fields:
        with pytest.raises(ValidationError):
            setattr(part, name, getattr(part, name))
    with pytest.raises(ValidationError):
        type(part)(unknown=1)


texts = st.text()
floats = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True).filter(lambda name: name != "train")
questions = st.builds(Questions, source=texts, split=texts, limit=st.none() | st.integers(min_value=1))
tunings = st.builds(
    Tuning,
    epochs=floats,
    learning_rate=floats,
    warmup=st.floats(0, 1),
    micro_batch_size=st.none() | st.integers(1, 64),
    lora_targets=texts | st.lists(texts, max_size=3).map(tuple),
)
recipes = st.builds(
    Recipe,
    seed=st.integers(0, 2**32 - 1),
    model=st.builds(Model, source=texts, revision=st.none() | texts),
    questions=questions,
    tests=st.dictionaries(names.map(str.lower), questions, min_size=1, max_size=3),
    prompt=st.builds(Prompt, instruction=texts, refusal=st.text(min_size=1), shots=st.integers(0, 5)),
    probe=st.builds(Probe, temperature=floats),
    rehearsal=st.builds(Rehearsal, certainty=st.floats(-1, 1), tuning=tunings),
    construction=st.builds(Construction, vanilla=st.integers(1, 9), seed=st.none() | st.integers()),
    strategies=st.lists(names, min_size=1, max_size=3, unique_by=str.casefold).map(tuple),
    tuning=tunings,
    evaluation=st.builds(Evaluation, resamples=st.integers(100, 200)),
)


@given(recipe=recipes)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_dumped_is_loaded(recipe, load):
    text = dump_recipe(recipe)

    assert load(text) == recipe
    assert dump_recipe(load(text)) == text


def test_a_dump_writes_every_key_out():
    text = dump_recipe(Recipe())

    def names_of(model: type[BaseModel]):
        for name, field in model.model_fields.items():
            if field.exclude:  # what changes no result is no part of what is written down
                continue
            yield name
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from names_of(field.annotation)

    assert all(f"{name}:" in text for name in names_of(Recipe))
    assert "learning_rate: 0.0002" in text
