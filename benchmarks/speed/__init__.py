"""Nightshift beside what people use, measured in turns on one machine: `make bench`, or `python -m benchmarks.speed`.

machine.py      which machine, allocator and versions, and how fast it multiplies matrices
data.py         the reviews: IMDb, or the sample
subject.py      the model that is scored with: fine-tuned once, kept by the digest of its settings
turns.py        sides in turns, medians, ratios
contenders.py   our engines as sides; peers.py, peer_worker.py: everybody else's, in an environment of their own
judged.py       trainings whose answers are compared, each written down when it is over
scoring.py, training.py, accuracy.py, sweep.py, price_list.py, cold_start.py, gpu.py: one measurement, one JSON file
results.py, tables.py, plots.py: JSON to docs/bench/, and from there into docs/speed.md
"""
