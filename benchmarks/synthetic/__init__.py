"""Recommenders on synthetic data, where the best possible ranking is known.

``python -m benchmarks.synthetic run`` and ``report`` write docs/synthetic/report.md.
"""
