"""Nobody gets in: no code of a model's, no path of the data's, no markup, escape or password of anybody's."""

import ast
import json
import pickle
import re
import shutil
import tomllib
from pathlib import Path

import markdown
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError

import rait
from rait.book import Book
from rait.chat import as_text
from rait.errors import InputError, ModelError, RaitError, RecipeError
from rait.export.cards import _fence
from rait.export.finished import MARK, new_folder
from rait.inert import holds_secret, inert, inert_json, inert_markdown, presentable
from rait.locking import Holder, locked
from rait.manifest import read_manifest, write_manifest
from rait.models.embedding import load_embedder
from rait.models.entailment import load_entailment
from rait.models.footprint import shape_of
from rait.models.loading import load, load_tokenizer
from rait.progress import say
from rait.prompting import Renderer
from rait.questions.files import dataset_rows
from rait.recipe import Prompt, check_recipe, load_recipe
from rait.records import Question
from rait.settings import Model, Recipe
from rait.status import print_status, status
from tiny import random_model, save, word_tokenizer

PACKAGE = Path(rait.__file__).parent
ROOT = PACKAGE.parent.parent
FILES = sorted(PACKAGE.rglob("*.py"))
KEY = "hf_" + "aZ09" * 8  # of the form of a key, and none


def calls(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The calls in a file: what is called, and its named arguments, as source."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    return [
        (ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg})
        for node in nodes
    ]


# What the source may not do.


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_runs_what_it_reads(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    unsafe = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "subprocess", "pty"}
    # Questions met so far lie in a file without a name, which this process alone has made and can open.
    assert imported & unsafe == ({"marshal"} if path.name == "seen.py" else set())
    for name, words in calls(path):
        assert name not in ("eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"), name
        assert words.get("shell", "False") == words.get("allow_pickle", "False") == "False"
        if name.endswith("torch.load"):
            assert words["weights_only"] == "True"
        if re.match(r"Auto\w+\.from_", name):
            assert words["trust_remote_code"] == "False", name
        if re.match(r"AutoModel\w*\.from_pretrained", name) and "gguf_file" not in words:
            assert words["use_safetensors"] == "True", name
        if name == "SentenceTransformer":
            assert words["trust_remote_code"] == "False" and "use_safetensors" in words["model_kwargs"]
        if name.endswith("Environment") and "Sandbox" not in name:
            assert words["autoescape"] == "True"


# Models of others: nothing of theirs runs, whatever stands on standard input.


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return open, (str(self.proof), "w")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    tokenizer = word_tokenizer([f"▁w{number}" for number in range(80)])
    return save(random_model("llama", len(tokenizer)), tokenizer, tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def proof(tmp_path, monkeypatch) -> Path:
    """The file that planted code makes; a user, or a pipe, says yes to whatever is asked."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "planted"


def with_code(base: Path, folder: Path, proof: Path) -> Path:
    """A model of a kind that transformers does not know, with the code that would load it."""
    shutil.copytree(base, folder)
    source = f"open({str(proof)!r}, 'w')\nfrom transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer\n"
    (folder / "own.py").write_text(source, "utf-8")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    own = {"AutoConfig": "own.LlamaConfig", "AutoModelForCausalLM": "own.LlamaForCausalLM"}
    config |= {"model_type": "own", "auto_map": own | {"AutoModelForSequenceClassification": "own.LlamaForCausalLM"}}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "use",
    [
        lambda folder: load(Model(source=str(folder))),
        lambda folder: load_embedder(str(folder)),
        lambda folder: load_entailment(str(folder)),
        lambda folder: shape_of(folder, "auto"),
    ],
    ids=["model", "embedder", "entailment", "estimate"],
)
def test_a_models_own_code_does_not_run(base, tmp_path, proof, use):
    with pytest.raises((ModelError, ValueError)):
        use(with_code(base, tmp_path / "model", proof))
    assert not proof.exists()


@pytest.mark.filterwarnings("ignore")
def test_a_models_own_code_is_refused_in_a_sentence(base, tmp_path, proof):
    with pytest.raises(ModelError, match="code of its own, which is not run"):
        load(Model(source=str(with_code(base, tmp_path / "model", proof))))
    folder = shutil.copytree(base, tmp_path / "tokenizer")
    (folder / "own.py").write_text(f"open({str(proof)!r}, 'w')\nTokenizer = None\n", "utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    settings |= {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}, "tokenizer_class": "OwnTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(ModelError, match="code of its own, which is not run"):
        load_tokenizer(Model(source=str(folder)))
    assert not proof.exists()


def test_a_sentence_model_names_no_classes_of_its_own(tmp_path, proof):
    (tmp_path / "own.py").write_text(f"open({str(proof)!r}, 'w')\n", "utf-8")
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "own.Own"}]))
    with pytest.raises(ModelError, match=r"code of its own \(own.Own\)"):
        load_embedder(str(tmp_path))
    assert not proof.exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("whole", [False, True], ids=["planted", "honest"])
def test_pickled_weights_are_not_read(base, tmp_path, proof, whole):
    folder = shutil.copytree(base, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    labels = {"id2label": {"0": "entailment", "1": "neutral", "2": "contradiction"}, "pad_token_id": 0}
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | labels), "utf-8")
    with (folder / "pytorch_model.bin").open("wb") as file:
        if whole:
            torch.save(random_model("llama", 84).state_dict(), file)
        else:
            pickle.dump(Planted(proof), file)
    with pytest.raises(ModelError, match=r"no weights in safetensors \(pytorch_model.bin"):
        load(Model(source=str(folder)))
    with pytest.raises(ModelError, match="safetensors"):
        load_embedder(str(folder))
    with pytest.raises(ModelError, match="safetensors"):
        load_entailment(str(folder))
    assert not proof.exists()


def test_a_pickled_adapter_is_not_read(base, tmp_path, proof):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings), "utf-8")
    with (adapter / "adapter_model.bin").open("wb") as file:
        pickle.dump(Planted(proof), file)
    with pytest.raises(ModelError, match=r"no weights in safetensors \(adapter_model.bin"):
        load(Model(source=str(base)), adapter=adapter)
    assert not proof.exists()


def test_an_adapter_imports_nothing(base, tmp_path, proof, monkeypatch):
    (tmp_path / "own_planted.py").write_text(f"open({str(proof)!r}, 'w')\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    get_peft_model(random_model("llama", 84), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    settings |= {"megatron_config": {"x": 1}, "megatron_core": "own_planted"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(ModelError, match="modules are not imported"):
        load(Model(source=str(base)), adapter=tmp_path)
    assert not proof.exists()


@pytest.mark.parametrize("card", ["", "---\nconfigs:\n- config_name: default\n  data_files: train.pkl\n---\n"])
def test_a_folder_of_questions_runs_nothing(tmp_path, proof, card):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "README.md").write_text(card, "utf-8")
    (folder / "data.py").write_text(f"open({str(proof)!r}, 'w')\n", "utf-8")
    with (folder / "train.pkl").open("wb") as file:
        pickle.dump(Planted(proof), file)
    for _ in range(2):  # with a script, and without
        with pytest.raises(InputError):
            list(dataset_rows(str(folder), None, "train"))
        (folder / "data.py").unlink(missing_ok=True)
    assert not proof.exists()


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['true']", "!!python/name:os.system", "&a [*a]"])
def test_yaml_makes_plain_data_alone(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"seed: {text}\n", "utf-8")
    with pytest.raises(RecipeError):
        load_recipe(path)
    with pytest.raises(RecipeError):
        load_recipe("default", [f"seed={text}"])


# Names and places.

ESCAPES = [
    "../../x",
    "/etc/x",
    "a/b",
    "..",
    ".",
    "",
    "a\0b",
    "n" * 300,
    "a\nb",
    "C:x",
    "a\\b",
    "=cmd|' /C calc'!A0",
    "-x",
]


@pytest.mark.parametrize("name", [*ESCAPES, "train", "Train", "REPORT", "seed-1", "Seed-1"])
def test_a_test_set_has_a_name_of_its_own(name):
    with pytest.raises(RecipeError, match="tests"):
        check_recipe({"tests": {name: {}}}, "here")


@pytest.mark.parametrize("name", [*ESCAPES, "questions", "Knowledge", "EXPORT"])
def test_a_strategy_has_a_name_of_its_own(name):
    with pytest.raises(RecipeError, match="strategies"):
        check_recipe({"strategies": [name]}, "here")


@pytest.mark.parametrize("seed", ["../1", "-1", "[1]", "1/2", "4294967296"])
def test_a_seed_is_a_number(seed):
    with pytest.raises(RecipeError, match="seed"):
        load_recipe("default", [f"seed={seed}"])


def test_names_differ_in_more_than_capital_letters():
    with pytest.raises(RecipeError, match="tests: id and ID differ in capital letters alone"):
        check_recipe({"tests": {"id": {}, "ID": {}}}, "here")
    with pytest.raises(RecipeError, match="craft and CRAFT differ"):
        check_recipe({"strategies": ["craft", "CRAFT"]}, "here")


def begun(folder: Path) -> Path:
    """A run folder with nothing done."""
    folder.mkdir()
    Book(folder, say=lambda _: None).begin(Recipe())
    return folder


def test_no_link_leads_out_of_a_run(tmp_path):
    run = begun(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (run / "knowledge").mkdir()
    for name, target in (("craft", tmp_path / "other"), ("knowledge/x.parquet", tmp_path / "gone"), (".lock", "../x")):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(target)
        for use in (read_manifest, status):
            with pytest.raises(InputError, match=rf"{name} is a link that leads out of the run folder"):
                use(run)
        with pytest.raises(InputError, match="leads out of the run folder"), locked(run):
            pass
        (run / name).unlink()
    assert {path.name for path in tmp_path.iterdir()} == {"run", "other"} and not any((tmp_path / "other").iterdir())


def test_links_within_a_run_and_to_it_are_followed(tmp_path):
    run = begun(tmp_path / "run")
    (run / "knowledge").mkdir()
    (run / "same").symlink_to("knowledge")
    (run / "round").symlink_to("round")
    (tmp_path / "short").symlink_to(run)
    with locked(tmp_path / "short"):
        assert read_manifest(tmp_path / "short")["steps"] == {}


def test_half_written_links_are_swept_up_and_not_what_they_point_to(tmp_path):
    run = begun(tmp_path / "run")
    (run / "knowledge").mkdir()
    (run / "knowledge/kept").write_text("")
    half = run / ".x.json.0123abcd.part"
    half.symlink_to("knowledge")
    Book(run, say=lambda _: None).begin(Recipe())
    assert not half.is_symlink() and (run / "knowledge/kept").exists()


def test_nothing_of_the_users_is_swept_up(tmp_path):
    run = begun(tmp_path / "run")
    mine = [run / name for name in ("notes/.thesis.part", "own/checkpoints/step-1/weights", "checkpoints.txt")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("weeks of work")
    manifest = read_manifest(run)
    write_manifest(run, manifest | {"versions": manifest["versions"] | {"torch": "0.0"}})
    Book(run, say=lambda _: None).begin(Recipe(), Holder(1, "there", "2024-01-01T00:00:00+00:00"))
    assert all(path.read_text() == "weeks of work" for path in mine)


@pytest.mark.parametrize(
    "name", ["../../other/tuning", "/etc/tuning", "a/../../b", "a\x1b[2J", "[link=http://x]a", ".x"]
)
def test_a_manifest_names_nothing_outside(tmp_path, name):
    run = begun(tmp_path / "run")
    whole = json.loads((run / "manifest.json").read_text("utf-8"))
    for place in (name, "craft/seed-1/tuning"):
        for steps in ({place: {"files": {}, "seconds": 1}}, {"craft/tuning": {"files": {place: ""}, "seconds": 1}}):
            # With a good checksum: whoever makes a run folder can compute it.
            write_manifest(run, whole | {"steps": steps, "confirmed": list(steps)})
            if place != name:
                assert read_manifest(run)["steps"] == steps
                continue
            with pytest.raises(InputError, match="is damaged"):
                read_manifest(run)


def test_an_export_replaces_its_own_files_alone(tmp_path):
    out = tmp_path / "out"
    for content in ("old", "new"):
        with new_folder(out) as folder:
            (folder / MARK).write_text("{}")
            (folder / f"{content}.txt").write_text(content)
    assert {path.name for path in out.iterdir()} == {MARK, "new.txt"}
    for mine in ("thesis.txt", "deep/er/notes.txt"):
        path = out / mine
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("all of it")
        with pytest.raises(InputError, match=f"{mine} is none of its files"), new_folder(out):
            pass
        assert path.read_text() == "all of it" and (out / "new.txt").exists()
        path.unlink()
    (out / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="link is none"), new_folder(out):
        pass


def test_a_folder_with_a_mark_alone_is_not_an_exports(tmp_path):
    """Such as one that an earlier version has written, or somebody else."""
    (tmp_path / MARK).write_text("{}")
    (tmp_path / "mine.txt").write_text("all of it")
    with pytest.raises(InputError, match=r"mine\.txt is none of its files"), new_folder(tmp_path):
        pass
    assert (tmp_path / "mine.txt").exists()


# Templates.


def chatting(template: str):
    tokenizer = word_tokenizer(["▁w"])
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append(1) }}",
        "{% for n in range(10 ** 9) %}x{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ messages[99].content.x.y }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('no') }}",
        "{% if %}",
    ],
)
def test_a_chat_template_is_rendered_in_a_sandbox(template):
    with pytest.raises(RecipeError, match="the model's chat template refuses the turns user"):
        as_text(chatting(template), [{"role": "user", "content": "?"}])


TEMPLATES = ["{{ 7 * 7 }}", "{% for x in [1] %}y{% endfor %}", "{# note #}", "${7*7}", "{{ cycler.__init__ }}"]


@pytest.mark.parametrize("text", TEMPLATES)
def test_what_is_asked_is_no_template(text):
    question = Question(id="1", question=text, answers=(text,))
    turns = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    )
    for tokenizer in (word_tokenizer(["▁w"]), chatting(turns)):
        render = Renderer(tokenizer, Prompt(system=text), shots={"": [question]})
        assert render(question).count(text) == 4  # the system turn, the worked example with its answer, the question


# What people are shown.

ESCAPING = [
    "\x1b[2J",
    "\x1b]8;;http://x\x07here\x1b]8;;\x07",
    "\x9b2J",
    "a\rb",
    "a\x08b",
    "\x1b]0;title\x07",
    "a\u202eb",
]


@pytest.mark.parametrize("text", ESCAPING)
def test_escapes_do_nothing_on_a_terminal(text, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    say(f"question {text}")
    shown = [capsys.readouterr().err, str(RaitError(f"no such id {text}")), presentable(text), inert_json(text)]
    for each in shown:
        assert not set(each) & set("\x1b\x9b\x07\x08\r\u202e")
    assert json.loads(inert_json(json.dumps(text, ensure_ascii=False))) == text


@given(st.text())
def test_json_is_the_same_and_inert(text):
    given_, shown = {"a": [text]}, inert_json(json.dumps({"a": [text]}, ensure_ascii=False, indent=1))
    assert json.loads(shown) == given_
    assert inert(shown, keep="\n") == shown


def test_a_runs_status_is_inert(tmp_path, capsys):
    run = begun(tmp_path / "run\x1b]0;title\x07[bold]")
    print_status(status(run))
    shown = capsys.readouterr().out
    assert "[bold]" in shown and not set(shown) & set("\x1b\x07")


MARKUP = ["[x](javascript:alert(1))", "<script>x</script>", "a\n---\nlicense: mit", "![x](http://x)", "**b**", "| a |"]


@pytest.mark.parametrize("text", [*MARKUP, "# h", "- item", "`c`", "<a href=x>", "&lt;", "_e_"])
def test_markdown_shows_names_as_they_are(text):
    plain = re.sub(r"\s", "\ufffd", text) if "\n" in text else text
    shown = markdown.markdown(inert_markdown(text), extensions=["tables"])
    assert re.findall(r"<(\w+)", shown) == ["p"]
    assert shown.count("\n") == 0 and plain.count("[") == shown.count("[")


def test_a_block_of_code_cannot_be_ended_from_within():
    assert _fence("a: b") == "```"
    assert _fence("a\n````\n<script>") == "`````"


# Passwords and keys.


PASSWORDS = ["me:pw", "pw", ":pw", "me:p/pw", "me:p@pw", "me:p@p/p?pw", "me:8pw/x", "me:pw//x"]
ADDRESSES = [f"https://{who}@h/x" for who in PASSWORDS]
PARAMETERS = [
    "token",
    "api_key",
    "apikey",
    "access_token",
    "X-Amz-Signature",
    "client-secret",
    "key",
    "PASSWORD",
    "sig",
]
KEYS = [
    KEY,
    "sk-" + "x1" * 16,
    "sk-proj-" + "aB-" * 16,
    "ghp_" + "b" * 36,
    "AKIA" + "A1" * 8,
    "ASIA" + "A1" * 8,
    "glpat-" + "x-1_" * 5,
    "xoxb-1234-abcdef",
    "xoxp-" + "12345-" * 3,
    "AIza" + "Sy-_3" * 7,
]


@pytest.mark.parametrize("secret", [*KEYS, *ADDRESSES, *(f"https://h/x?a=b&{name}=pw" for name in PARAMETERS)])
def test_no_recipe_keeps_a_secret(secret):
    for keys in (
        ["model.source=" + secret],
        ["probe.embedder=" + secret],
        [f"tuning.lora_targets=[{secret}]"],
        [f"prompt.system=use {secret}"],
        [f"tests.id.source={secret}"],
        [f"seed={secret}"],
        [f"seed={{{'x' * 20}: {{a: '{secret}'}}}}"],  # of which a message shows the first part
    ):
        with pytest.raises(RecipeError) as problem:
            load_recipe("default", keys)
        assert not [part for part in ("pw", *(key[:20] for key in KEYS)) if part in str(problem.value)]
    with pytest.raises(ValidationError, match="holds a password or key"):
        Model(source=secret)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_seen_whatever_stands_around_it(key):
    for text in ("{}", "KEY={}", "({}).", "my_{}", "'{}'", "a:{}", "s3://{}:x"):
        assert presentable(text.format(key)) == text.format("***")


# What people type into an address: signs, and no blank or quote.
SIGNS = st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_characters="'\"", exclude_categories=["Z", "C"])


@given(st.sampled_from(["", "me", "me.2"]), st.text(SIGNS, max_size=20))
def test_no_part_of_a_password_in_an_address_is_shown(user, rest):
    text = f"cannot fetch https://{user}:p{rest}@host/model.gguf, the hub says no"
    assert holds_secret(text)
    assert presentable(text) == "cannot fetch https://***@host/model.gguf, the hub says no"


def test_of_parameters_the_secret_ones_are_hidden():
    shown = presentable("https://host/x?max_tokens=5&hf_token=abc&sort=key&key=d/e@f#part 'https://h/?sig=1'")
    assert shown == "https://host/x?max_tokens=5&hf_token=***&sort=key&key=***#part 'https://h/?sig=***'"


WORD = st.from_regex(r"[a-zA-Z]{1,12}", fullmatch=True)
PLAIN = st.one_of(
    WORD,
    st.from_regex(r"[a-z]{1,9}(-[a-z]{1,9}){1,4}", fullmatch=True),
    st.from_regex(r"(sk|gh|gl|xo|hf|risk|ask)-[a-z]{1,9}(-[a-z]{1,9}){0,4}", fullmatch=True),
    st.times().map(str),
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.builds("{}@{}.org".format, WORD, WORD),
    st.builds("{}:{}@{}".format, WORD, WORD, WORD),
    st.builds("{0:%H:%M}@{1}".format, st.times(), WORD),
    st.builds("https://{}:{}/@{}/{}".format, WORD, st.integers(1, 65535), WORD, WORD),
    st.builds("https://{}.org/{}?page={}&{}#@{}".format, WORD, WORD, st.integers(0), WORD, WORD),
    st.builds("hf://datasets/{}/{}@{}".format, WORD, WORD, WORD),
    st.builds("{}/{}-{}".format, WORD, WORD, st.floats(0, 9, width=16)),
)


@given(st.lists(PLAIN, max_size=8).map(" ".join))
def test_plain_text_holds_no_secret(text):
    assert not holds_secret(text) and presentable(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Qwen/Qwen3-0.6B",
        "hf://datasets/a/b@main",
        "http://localhost:8000/v1",
        "http://localhost:8000/@me",
        "http://[::1]:8000/@me",
        "me@home",
        "hf_x",
        "me/sk-news-classification-large",
        "xoxo-hugs-and-kisses-for-4-you",
        "https://x.org/?max_tokens=5",
    ],
)
def test_what_is_no_secret_may_stand_in_a_recipe(text):
    assert not holds_secret(text) and presentable(text) == text
    assert Model(source=text).source == text


def test_errors_leave_secrets_out():
    shown = str(ModelError(f"cannot fetch https://me:pw@host/model with {KEY}"))
    assert shown == "cannot fetch https://***@host/model with ***"


def test_errors_are_no_longer_than_people_read():
    """Whatever stands in them: the place is at the beginning, and what to do at the end."""
    line = f"q.jsonl:3: id {'x' * 10**6!r} stands twice; give it another"
    shown = str(InputError(f"2 problems:\n  {line}\n  q.jsonl:4: the end"))
    first, long, last = shown.split("\n")
    assert (first, last) == ("2 problems:", "  q.jsonl:4: the end")
    assert long.startswith("  q.jsonl:3: id 'xxx") and long.endswith("xxx' stands twice; give it another")
    assert " ... " in long and len(long) < 1600
    usual = f"{'/long' * 60}/questions.jsonl:3: {'word ' * 100}"
    assert str(InputError(usual)) == usual, "a path of the longest name, and a sentence"


# What it stands on.


def wanted() -> dict[str, str]:
    """What pyproject.toml asks for, by name; the package's own extras aside."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [name for extra in project["optional-dependencies"].values() for name in extra]
    named = {re.match(r"[\w.-]+", each)[0].lower().replace("_", "-"): each for each in project["dependencies"] + extras}
    return {name: each for name, each in named.items() if name != "rait"}


def test_dependencies_have_a_lowest_version():
    unbound = [name for name, each in wanted().items() if ">=" not in each]
    assert unbound == ["types-pyyaml"]  # for the type checker alone


def test_dependencies_are_pinned_where_they_are_tested():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines)
    assert wanted().keys() <= {line.partition("==")[0].lower().replace("_", "-") for line in lines}


def test_the_lowest_versions_are_those_of_the_oldest_set():
    lines = (ROOT / "constraints-oldest.txt").read_text("utf-8").splitlines()
    oldest = dict(line.replace("_", "-").split("==") for line in lines if "==" in line)
    named = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    lowest = dict(each.replace("_", "-").split(">=") for each in named)
    assert lowest.keys() == oldest.keys()
    newer = [name for name in lowest if not f"{oldest[name]}.0.".startswith(f"{lowest[name]}.")]
    assert newer == ["torch"]
