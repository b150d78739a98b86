"""Accuracy on Online Retail: every model on every protocol, with seeds and paired intervals.

How to run it is in docs/accuracy.md.
"""
