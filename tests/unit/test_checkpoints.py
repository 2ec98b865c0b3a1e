"""Tuning that is interrupted, and checkpoints that are damaged or made by others."""

import json
import pickle
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from rait.errors import TrainingError
from rait.models.loading import load
from rait.recipe import Model, Tuning
from rait.records import Example, Role
from rait.tuning import trainer
from rait.tuning.checkpoints import SEAL, last_whole, seal
from rait.tuning.sft import fine_tune
from tiny import random_model, save, word_tokenizer

pytestmark = pytest.mark.slow  # many trainings and probes

WORDS = ["▁red", "▁blue", "▁old", "Q", "▁who", "▁what", ":", "A", "▁x", "▁y", "\n"]
PAIRS = {"Q: who": " red", "Q: what": " blue old", "Q: old": " old", "Q: x y": " red red", "Q: y": " blue"}
EXAMPLES = [
    Example(id=f"{prompt}{n}", prompt=prompt, completion=answer, role=Role.VANILLA)
    for n in range(5)
    for prompt, answer in PAIRS.items()
]
# 25 examples in batches of 8, two forward passes each: four steps a pass, of which the last one is short.
TUNING = Tuning(epochs=6, batch_size=8, micro_batch_size=4, learning_rate=0.02, lora_rank=4, warmup=0.1)
STEPS = 24


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    tokenizer = word_tokenizer(WORDS)
    model = random_model("llama", len(tokenizer), spread=0.1)
    return Model(source=str(save(model, tokenizer, tmp_path_factory.mktemp("model"))))


def interrupt(monkeypatch, step):
    """Stop, as Ctrl-C does, in the last forward pass of a step, counted from 1."""
    real = trainer.AnswerTrainer.compute_loss
    passes = iter([False] * (step % 4 != 0) + [True])

    def failing(self, *arguments, **options):
        if self.state.global_step + 1 == step and next(passes):
            raise KeyboardInterrupt
        return real(self, *arguments, **options)

    monkeypatch.setattr(trainer.AnswerTrainer, "compute_loss", failing)


def weights(folder: Path) -> bytes:
    (path,) = (folder / "adapter").glob("*.safetensors")
    return path.read_bytes()


KINDS = {
    "lora": {},
    "dropout": {"lora_dropout": 0.3},
    "full": {"method": "full", "learning_rate": 0.01},
}


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """By kind: the folder and result of a tuning that nothing interrupts."""
    made = {}
    for kind, changes in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = folder, fine_tune(load(source), EXAMPLES, TUNING.model_copy(update=changes), folder, seed=3)
    return made


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("lora", [13, 22]),
        ("dropout", [12]),
        ("full", [18]),
        *(
            pytest.param(kind, steps, marks=pytest.mark.slow)
            for kind in KINDS
            for steps in ([11], [15, 21], [20], [24])
        ),
    ],
)
def test_an_interrupted_tuning_ends_as_one_that_is_not(source, tmp_path, monkeypatch, whole, kind, steps):
    """Every bit of the weights and of the losses, wherever it stopped; checkpoints are written every ten steps."""
    tuning = TUNING.model_copy(update=KINDS[kind])
    for step in steps:
        interrupt(monkeypatch, step)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(load(source), EXAMPLES, tuning, tmp_path, seed=3)
        monkeypatch.undo()
        saved = [path.name for path in (tmp_path / "checkpoints").glob("checkpoint-*")]
        assert saved == [f"checkpoint-{(step - 1) // 10 * 10}"]
    result = fine_tune(load(source), EXAMPLES, tuning, tmp_path, seed=3)
    folder, expected = whole[kind]
    assert result.steps == expected.steps == STEPS
    assert result.losses == expected.losses
    assert weights(tmp_path) == weights(folder)


@pytest.fixture(scope="module")
def cut(source, tmp_path_factory):
    """A folder with one checkpoint, of step 20."""
    folder = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 21)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(load(source), EXAMPLES, TUNING, folder, seed=3)
    return folder / "checkpoints"


@pytest.fixture
def checkpoints(cut, tmp_path):
    return Path(shutil.copytree(cut, tmp_path / "own/checkpoints"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_checkpoint_with_any_file_damaged_is_named_and_removed(checkpoints, tmp_path, how):
    last = checkpoints / "checkpoint-20"
    names = sorted(path.name for path in last.iterdir())
    assert {"adapter_model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", SEAL} <= set(names)
    assert "training_args.bin" not in names
    for name in names:
        copy = Path(shutil.copytree(checkpoints, tmp_path / name))
        DAMAGE[how](copy / last.name / name)
        notes = []
        assert last_whole(copy, notes.append) is None
        assert not (copy / last.name).exists()
        (note,) = notes
        assert str(copy / last.name) in note
        assert name in note or name == SEAL
    assert last_whole(checkpoints, pytest.fail) == last


def test_the_next_older_checkpoint_is_used(checkpoints):
    shutil.copytree(checkpoints / "checkpoint-20", checkpoints / "checkpoint-100")
    shutil.copytree(checkpoints / "checkpoint-20", checkpoints / "checkpoint-9")
    (checkpoints / "checkpoint-last").mkdir()
    (checkpoints / "checkpoint-100/optimizer.pt").unlink()
    (checkpoints / "checkpoint-20/more.bin").touch()
    notes = []
    assert last_whole(checkpoints, notes.append) == checkpoints / "checkpoint-9"
    assert ["lost its optimizer.pt" in notes[0], "more.bin" in notes[1]] == [True, True]
    assert last_whole(checkpoints.with_name("none"), pytest.fail) is None


def test_tuning_goes_on_without_a_damaged_checkpoint(source, checkpoints, whole, capsys):
    flip(checkpoints / "checkpoint-20/adapter_model.safetensors")
    fine_tune(load(source), EXAMPLES, TUNING, checkpoints.parent, seed=3)
    assert "adapter_model.safetensors is not as it was saved; it is removed" in capsys.readouterr().err
    assert weights(checkpoints.parent) == weights(whole["lora"][0])


class _Planted:
    """Would write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


READ = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "adapter_model.bin", "pytorch_model.bin"]
UNREAD = ["training_args.bin", "optimizer.bin"]
PICKLES = [*READ, *(pytest.param(name, marks=pytest.mark.slow) for name in UNREAD)]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["torch", pytest.param("pickle", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PICKLES)
def test_no_pickle_of_a_checkpoint_runs_code(source, checkpoints, tmp_path, name, form):
    """Even where whoever planted it has made the checksums fit."""
    folder, marker = checkpoints / "checkpoint-20", tmp_path / "ran"
    with (folder / name).open("wb") as file:
        (torch.save if form == "torch" else pickle.dump)({"state": _Planted(marker)}, file)
    if name == "adapter_model.bin":
        (folder / "adapter_model.safetensors").unlink()
    sums = {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name not in (SEAL, "key")
    }
    (folder / SEAL).write_text(json.dumps(sums))
    assert last_whole(checkpoints, pytest.fail) == folder
    try:
        fine_tune(load(source), EXAMPLES, TUNING, checkpoints.parent, seed=3)
    except TrainingError as error:
        assert str(folder) in str(error)
        assert "remove it" in str(error)
    assert not marker.exists()
    with (checkpoints / "control").open("wb") as file:
        pickle.dump(_Planted(marker), file)
    pickle.loads((checkpoints / "control").read_bytes())
    assert marker.exists(), "what was planted would have run"


def test_a_seal_covers_folders_in_a_checkpoint(tmp_path):
    folder = tmp_path / "checkpoint-1"
    (folder / "part").mkdir(parents=True)
    (folder / "part/weights").write_bytes(b"1")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    seal(folder)
    assert json.loads((folder / SEAL).read_text()) == {"part/weights": sha256(b"1").hexdigest()}
    (folder / "part/weights").write_bytes(b"2")
    assert last_whole(tmp_path, lambda _: None) is None
