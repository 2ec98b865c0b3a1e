"""From a finished run to the tools that people already use: data for other trainers, a whole model, a benchmark.

`finished` opens a run folder, `formats` are the tables of other trainers, `merged` is the adapter merged into its base,
`harness` a task folder for lm-evaluation-harness, `cards` what the hub shows about either, `hub` the upload.
`rait.export.run` puts them together, as `rait export` does.
"""
