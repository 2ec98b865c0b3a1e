"""Count the rows that go through a torch model, from outside and at no cost: a hook on the first matrix, a disguise of
the last, which is not always used by way of its module.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from engines import Work

_PRODUCTS = {torch.nn.functional.linear, torch.mm, torch.matmul, torch.addmm, Tensor.mm, Tensor.matmul}
_PRODUCTS |= {Tensor.__matmul__, Tensor.__rmatmul__}


def count_rows(model: Any) -> Callable[[], Work]:
    """A function that tells the rows so far; padding counts, because it is computed."""
    rows = 0

    def embedded(_: Any, inputs: tuple[Any, ...]) -> None:
        nonlocal rows
        rows += inputs[0].numel()

    model.get_input_embeddings().register_forward_pre_hook(embedded)
    head = model.get_output_embeddings()
    vocabulary = head.weight.shape[0]
    disguised = head.weight.detach().as_subclass(_Counted)
    disguised._is_param = True  # what torch knows a parameter of another class by
    head.weight = disguised
    return lambda: Work(rows, _Counted.logits // vocabulary)


class _Counted(Tensor):
    """A vocabulary matrix, or a view of it, that counts the numbers which products with it give."""

    logits = 0

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
            if func in _PRODUCTS:
                cls.logits += result.numel()
            elif isinstance(result, Tensor) and result._is_view():
                return result.as_subclass(cls)
        return result
