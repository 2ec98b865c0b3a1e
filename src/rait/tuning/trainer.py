"""The trainer: TRL's SFTTrainer with the loss of answers alone, examples' weights, and an eye on every number.

    trainer = AnswerTrainer(model, args, train_dataset=rows, ..., callbacks=[Watch(advance)])
    trainer.data_collator = Weighted(trainer.data_collator)
    trainer.watch(ids)

Where a loss, a gradient or a weight is not finite, training stops with the step and the questions that it was on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from transformers import TrainerCallback
from trl import SFTTrainer

from rait.errors import TrainingError, some
from rait.models.tree import read
from rait.models.tuned import not_finite
from rait.progress import Advance
from rait.tuning.loss import answer_loss

IGNORED = -100  # label of a token that is not learned


def section(what: str) -> str:
    """The section of the recipe that a tuning's settings stand in, by its name."""
    return "rehearsal.tuning" if what == "rehearse" else "tuning"


class AnswerTrainer(SFTTrainer):
    """SFTTrainer that reads a batch as a tree of distinct prefixes and takes the loss at the answers' positions alone.

    The examples of a batch begin with the same instruction: it is computed once, nothing is padded, and only answer
    positions are projected onto the vocabulary. The gradient is that of the padded batch.
    """

    share_prefixes = True
    ids: Sequence[str] = ()  # of the examples, by their number
    read_by_step: Sequence[int] = ()  # the numbers of the examples of this optimiser step, so far
    tokens = 0  # of the examples that were read last

    def watch(self, ids: Sequence[str]) -> None:
        """Look at every number from now on; `ids` are those of the training set's rows."""
        self.ids = ids
        self.add_callback(_Steps(self))

    def stop(self, what: str, numbers: Sequence[int]) -> NoReturn:
        """Raise `TrainingError`, for `what` is not finite, with the step and the questions of `numbers`."""
        ids = list(dict.fromkeys(self.ids[number] for number in numbers))
        name = self.args.run_name
        raise TrainingError(
            f"{name}: {what} not finite at step {self.state.global_step + 1}, in {len(ids)} questions ({some(ids)}); "
            f"lower {section(name)}.learning_rate, or load the model with model.dtype=float32"
        )

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean cross-entropy, in nats, of the answers' tokens, each times the weight of its example."""
        network = self.accelerator.unwrap_model(model)
        network = network.get_base_model() if hasattr(network, "get_base_model") else network
        labels = [row[row != IGNORED] for row in inputs["labels"]]
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        texts = [row[:length].tolist() for row, length in zip(inputs["input_ids"], lengths, strict=True)]
        numbers = inputs["number"].tolist()
        self.read_by_step = [*self.read_by_step, *numbers]
        self.tokens = sum(lengths)
        targets = torch.cat(labels)
        weights = inputs["weight"]
        each = None  # the sum without factors, so that weights of 1 change no bit of it
        if bool((weights != 1).any()):
            each = weights.repeat_interleave(torch.tensor([len(answer) for answer in labels], device=weights.device))
        with self.accelerator.autocast():  # it wraps the model's own forward, which is not called here
            states, rows = read(network, texts, share=self.share_prefixes)
            # The state before a token predicts it; an answer is the end of its text.
            before = torch.cat([own[-len(answer) - 1 : -1] for own, answer in zip(rows, labels, strict=True)])
            total = answer_loss(network, states.index_select(0, before), targets, each)
        loss = total / (len(targets) if num_items_in_batch is None else num_items_in_batch)
        if not torch.isfinite(loss):
            self.stop("the loss is", numbers)
        return (loss, {}) if return_outputs else loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """The trainer's own, which would make every weight NaN of one infinite gradient."""
        norm = super()._clip_grad_norm(model)
        scaler = self.accelerator.scaler
        # In float16 a gradient may overflow: the scaler leaves the step out and takes a smaller scale for the next.
        may_overflow = scaler is not None and scaler.get_scale() > 1
        if not may_overflow and not torch.isfinite(torch.as_tensor(norm)):
            self.stop("gradients are", self.read_by_step)
        return norm


@dataclass(frozen=True, slots=True)
class Weighted:
    """The trainer's own collator, and the examples' weights and numbers (batch,), which that one leaves behind."""

    collate: Any

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch of `rows`."""
        own = {name: torch.tensor([row[name] for row in rows]) for name in ("weight", "number")}
        return {**self.collate(rows), **own}


class _Steps(TrainerCallback):
    """Tells the trainer where a step begins, and looks at the weights when they have been changed."""

    def __init__(self, trainer: AnswerTrainer) -> None:
        self.trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Forget the examples of the step before."""
        self.trainer.read_by_step = ()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """The learned weights are new, and must be finite."""
        if not_finite((name, weight) for name, weight in model.named_parameters() if weight.requires_grad):
            self.trainer.stop("weights are", self.trainer.read_by_step)


class Watch(TrainerCallback):
    """Moves the progress bar."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance
        self.shown = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show the steps done since the last one, those before a resumption included."""
        self.advance(state.global_step - self.shown)
        self.shown = state.global_step
