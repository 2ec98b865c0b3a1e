"""transformers: `generate` one prompt a sample, `generate` with `num_return_sequences`, and `generate_batch`.

All end at the tokens that hold a line break, as ids, which costs less a step than stop strings do. The library's
filters are off. What `batch` counts are prompts for `generate_each` and questions for `generate_return`; both read a
question once for every sample of it. In `generate_batch` the samples of a question share its blocks of the cache.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from engines import Answers, Asked, Job, Ready
from engines.counting import count_rows

SETTINGS: dict[str, list[dict[str, Any]]] = {
    # The batch of 8 is the paper's; the precision is free.
    "generate_each": [{"dtype": "float32", "batch": 8}, {"dtype": "bfloat16", "batch": 8}],
    "generate_return": [
        {"dtype": dtype, "batch": batch} for dtype in ("float32", "bfloat16") for batch in (4, 1, 2, 8)
    ],
    # A page longer than the prompts would share nothing between questions.
    "generate_batch": [
        {"dtype": dtype, "page_size": page, "max_batch_tokens": tokens}
        for dtype in ("float32", "bfloat16")
        for page in (16, 256)
        for tokens in (256, 1024)
    ],
}
_CACHE_TOKENS = 1 << 16  # of `generate_batch`: left to itself it takes most of the memory, and the time to clear it


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any
    ends: list[int]


def generate_each(job: Job) -> Ready:
    """Every sample a prompt of its own, the worked examples read again each time."""
    loaded = _load(job)
    batch = job.setting["batch"]

    def ask(asked: Sequence[Asked], samples: int) -> Answers:
        return _in_batches(loaded, job, asked, [index for index in range(len(asked)) for _ in range(samples)], batch, 1)

    return Ready(ask, count_rows(loaded.model))


def generate_return(job: Job) -> Ready:
    """All samples of a question from one call, questions of like length together."""
    loaded = _load(job)
    batch = job.setting["batch"]

    def ask(asked: Sequence[Asked], samples: int) -> Answers:
        lengths = [len(loaded.tokenizer(one["prompt"])["input_ids"]) for one in asked]
        order = sorted(range(len(asked)), key=lengths.__getitem__)
        return _in_batches(loaded, job, asked, order, batch, samples)

    return Ready(ask, count_rows(loaded.model))


def generate_batch(job: Job) -> Ready:
    """Continuous batching: samples share the blocks of their question, questions those of the worked examples."""
    from transformers import ContinuousBatchingConfig

    loaded = _load(job)
    page = job.setting["page_size"]
    config = {
        "allow_block_sharing": True,
        "page_size": page,
        "num_blocks": _CACHE_TOKENS // page,
        "max_batch_tokens": job.setting["max_batch_tokens"],
        "seed": 0,
    }

    def ask(asked: Sequence[Asked], samples: int) -> Answers:
        # The prompt's own order is kept: the library sorts where that helps its sharing.
        ids = loaded.tokenizer([one["prompt"] for one in asked])["input_ids"]
        outputs = loaded.model.generate_batch(
            ids,
            generation_config=_sampling(loaded, job, num_return_sequences=samples),
            continuous_batching_config=ContinuousBatchingConfig(**config),
        )
        results = list(outputs.values())
        failed = [result.error for result in results if result.error is not None]
        if failed or len(results) != len(asked) * samples:
            raise RuntimeError(f"generate_batch lost answers: {failed[:1] or len(results)}")
        return _counted(loaded, (result.generated_tokens for result in results), samples)

    return Ready(ask, count_rows(loaded.model))


def _load(job: Job) -> _Loaded:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(job.model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=getattr(torch, job.setting["dtype"]))
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    own = model.generation_config.eos_token_id
    ends = {token for token, text in enumerate(texts) if "\n" in text}
    ends |= set(own if isinstance(own, list) else [own]) | {tokenizer.eos_token_id}
    return _Loaded(model, tokenizer, sorted(end for end in ends if end is not None))


def _sampling(loaded: _Loaded, job: Job, **more: Any) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=job.max_new_tokens,
        bos_token_id=loaded.tokenizer.bos_token_id,
        eos_token_id=loaded.ends,
        pad_token_id=loaded.tokenizer.pad_token_id,
        **more,
    )


def _in_batches(
    loaded: _Loaded, job: Job, asked: Sequence[Asked], order: Sequence[int], batch: int, samples: int
) -> Answers:
    """Ask the questions named by `order`, `batch` at a time, each for `samples` answers."""
    import torch

    torch.manual_seed(0)
    sampling = _sampling(loaded, job, num_return_sequences=samples)
    answers: list[Counter[str]] = [Counter() for _ in asked]
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        prompts = [asked[index]["prompt"] for index in some]
        inputs = loaded.tokenizer(prompts, return_tensors="pt", padding=True).to(loaded.model.device)
        with torch.inference_mode():
            made = loaded.model.generate(**inputs, generation_config=sampling)
        rows = made[:, inputs["input_ids"].shape[1] :].tolist()
        for index, counts in zip(some, _counted(loaded, rows, samples), strict=True):
            answers[index].update(counts)
    return [dict(counts) for counts in answers]


def _counted(loaded: _Loaded, rows: Iterable[Sequence[int]], samples: int) -> Answers:
    """Answer texts with counts from token rows, `samples` rows a question."""
    texts = [
        text.strip().split("\n")[0].strip()
        for text in loaded.tokenizer.batch_decode(list(rows), skip_special_tokens=True)
    ]
    return [dict(Counter(texts[start : start + samples])) for start in range(0, len(texts), samples)]
