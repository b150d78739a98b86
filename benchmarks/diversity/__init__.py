"""Diversity on Online Retail: what varied lists cost in NDCG, and what they gain.

How to run it is in docs/diversity.md.
"""
