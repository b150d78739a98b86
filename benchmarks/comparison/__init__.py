"""What the suites share: cases, agreement of results, peak memory, tables."""
