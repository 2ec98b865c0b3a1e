"""Checkpoints of a tuning that can be trusted: each is sealed with a checksum of every file, and used only if all hold.

    callbacks=[Sealed()]                                    # after each checkpoint that the trainer writes
    last = last_whole(folder / "checkpoints", say)          # to go on from, or None

A checkpoint without its seal was being written when the process died. The one before it is removed only when the next
is sealed. Nothing in a checkpoint can run code: the trainer reads weights as safetensors and the rest with torch's
`weights_only`, and the one other pickle, which nothing reads, is not kept.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from rait.models.checksums import read_through
from rait.models.saving import sync
from rait.progress import Say
from rait.tables import write_json

SEAL = "checksums.json"
_UNREAD = "training_args.bin"  # a pickle; the recipe says it all


class Sealed(TrainerCallback):
    """Seals each checkpoint, and then removes those before it."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal the checkpoint of this step."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        seal(folder)
        for older in _checkpoints(folder.parent):
            if older != folder:
                shutil.rmtree(older, ignore_errors=True)


def seal(folder: Path) -> None:
    """Write down the SHA-256 of every file of a checkpoint, all of which are on the disk then."""
    (folder / _UNREAD).unlink(missing_ok=True)
    sync(folder)
    write_json(folder / SEAL, {name: read_through(folder / name) for name in _files(folder)})


def last_whole(folder: Path, say: Say) -> Path | None:
    """The newest checkpoint in `folder` whose files are as they were sealed, or None.

    Newer ones that are not are removed, and said.
    """
    for checkpoint in _checkpoints(folder):
        problem = _damage(checkpoint)
        if problem is None:
            return checkpoint
        say(f"The checkpoint {checkpoint} {problem}; it is removed, and these steps are computed again.")
        shutil.rmtree(checkpoint)
    return None


def _checkpoints(folder: Path) -> list[Path]:
    """The newest first."""
    found = {path: path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*") if path.is_dir()}
    steps = {path: int(step) for path, step in found.items() if step.isdecimal()}
    return sorted(steps, key=lambda path: steps[path], reverse=True)


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, to be read after its name, or None."""
    if not (checkpoint / SEAL).is_file():
        return "was not finished"
    try:
        sums = json.loads((checkpoint / SEAL).read_text("utf-8"))
        if strange := sorted(set(_files(checkpoint)) - set(sums)):
            return f"holds {strange[0]}, which was not saved with it"
        for name, wanted in sums.items():
            if not (checkpoint / name).is_file():
                return f"has lost its {name}"
            if read_through(checkpoint / name) != wanted:
                return f"is damaged: {name} is not as it was saved"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"is damaged: {error}"
    return None


def _files(checkpoint: Path) -> list[str]:
    """What a checkpoint holds, without its seal."""
    names = (path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if not path.is_dir())
    return sorted(name for name in names if name != SEAL)
