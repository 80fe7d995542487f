"""Compare Nightshift with common alternatives, in turns on one machine: `make bench`, or `python -m benchmarks.speed`.

machine.py      the machine, allocator and versions, and the speed of matrix products
data.py         the reviews: IMDb, or the sample
subject.py      the model that scores: fine-tuned once, kept by the digest of its settings
turns.py        sides in turns, medians, ratios
contenders.py   our engines as sides; peers.py, peer_worker.py: everybody else's, in an environment of their own
judged.py       trainings whose predictions are compared, each saved when it ends
scoring.py, training.py, accuracy.py, sweep.py, price_list.py, cold_start.py, gpu.py: one measurement, one JSON file
results.py, tables.py, plots.py: JSON to docs/bench/, and from there into docs/speed.md
"""
