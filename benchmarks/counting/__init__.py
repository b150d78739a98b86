"""What a call moves and computes, counted without running it; see ``benchmarks/roofline.py``."""
