"""Accuracy on Online Retail: every model on every protocol, with seeds and paired intervals.

fusionops encode items.csv --out features --text description=MODEL
python -m benchmarks.accuracy run --features features --work work
python -m benchmarks.accuracy report --work work --out docs/accuracy
"""
