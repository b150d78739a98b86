"""Models as a person writes them in eager PyTorch, for the suites to compare with."""
