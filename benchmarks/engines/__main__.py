"""Run one engine in this process, alone: `python -m engines NAME JOB OUT`, job and result as JSON.

Loading and a short warm-up come before the clock starts. The machine's peak is measured before and after, here, because
a shared machine is not equally fast all day.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from engines import Job, UnavailableError, engine


def main(name: str, job_file: str, out_file: str) -> None:
    job = Job(**json.loads(Path(job_file).read_text("utf-8")))
    try:
        result = _measure(name, job)
    except (ImportError, UnavailableError) as error:
        result = {"unavailable": str(error)}
    Path(out_file).write_text(json.dumps(result, ensure_ascii=False), "utf-8")


def _measure(name: str, job: Job) -> dict[str, Any]:
    import torch
    from machine import matrix_peak, peak_memory

    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = matrix_peak(torch.bfloat16, device)
    ready = engine(name)(job)
    ready.ask(job.warm_up, job.samples)
    start_work = ready.work()
    start, start_cpu = time.perf_counter(), time.process_time()
    answers = ready.ask(job.asked, job.samples)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    memory = peak_memory()
    end_work = ready.work()
    return {
        "answers": answers,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "memory": memory,
        "device_memory": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "rows": end_work.rows - start_work.rows if start_work and end_work else None,
        "head_rows": end_work.head_rows - start_work.head_rows if start_work and end_work else None,
        "peak": max(before, matrix_peak(torch.bfloat16, device)),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
