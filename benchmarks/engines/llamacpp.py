"""llama.cpp: its server with parallel slots and prompt cache, on the quantised weights as they are.

`xllamacpp` brings the server as a package. A question is one request for N answers: its prompt is read once and N slots
go on from there. Questions are sorted, so that a slot finds the worked examples and the wording in its cache.

    settings   slots: answers under way at once; unified: one cache for all slots, or one each
    off        all samplers but the temperature, which at 1 changes nothing; context shift and checkpoints
    tried      a request for each answer; samplers on the graph (`backend_sampling`); flash attention forced; slower
"""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from engines import Answers, Asked, Job, Ready, UnavailableError, Work

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "llamacpp": [{"slots": slots, "unified": unified} for slots in (10, 20, 40) for unified in (True, False)]
}
_CONTEXT = 256  # tokens a slot may hold


def llamacpp(job: Job) -> Ready:
    """One request a question, as many at once as the slots allow."""
    import xllamacpp

    if job.gguf is None:
        raise UnavailableError("there is no GGUF file of this model")
    slots = max(job.setting["slots"], job.samples)  # a request takes a slot for each of its answers
    params = xllamacpp.CommonParams()
    params.model.path = job.gguf
    params.n_parallel = slots
    params.n_ctx = _CONTEXT * slots
    params.kv_unified = job.setting["unified"]
    params.swa_full = True  # a window's cache that forgets the worked examples could not be used again
    params.n_ctx_checkpoints = 0
    params.cache_ram_mib = 0
    params.fit_params = False
    params.endpoint_metrics = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = len(os.sched_getaffinity(0))
    params.verbosity = -1
    server = xllamacpp.Server(params)

    def ask(asked: Sequence[Asked], samples: int) -> Answers:
        def request(one: Asked) -> dict[str, int]:
            made = server.handle_completions(
                {
                    "prompt": one["prompt"],
                    "n": samples,
                    "max_tokens": job.max_new_tokens,
                    "stop": ["\n"],
                    "cache_prompt": True,
                    "samplers": ["temperature"],
                    "temperature": 1.0,
                    # The k-th answer draws by seed + k. Without a seed of its own each question would draw alike.
                    "seed": one["seed"] % (1 << 31),
                }
            )
            if "choices" not in made:
                raise RuntimeError(f"llama.cpp's server answered {made}")
            return dict(Counter(choice["text"].strip() for choice in made["choices"]))

        order = sorted(range(len(asked)), key=lambda index: asked[index]["prompt"])
        with ThreadPoolExecutor(max(1, slots // samples)) as pool:
            answers = dict(zip(order, pool.map(request, [asked[index] for index in order]), strict=True))
        return [answers[index] for index in range(len(asked))]

    def work() -> Work:
        lines = server.handle_metrics().splitlines()
        total = {line.split()[0]: float(line.split()[1]) for line in lines if line and not line.startswith("#")}
        drawn = int(total["llamacpp:tokens_predicted_total"])
        # The last token of an answer is drawn and not read; what is drawn from the prompt's last row is.
        return Work(int(total["llamacpp:prompt_tokens_total"]) + drawn, drawn)

    return Ready(ask, work)
