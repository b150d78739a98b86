"""Faithfulness of explanations: deletion and insertion beside gradient x input and random order.

How to run it is in docs/faithfulness/report.md.
"""
