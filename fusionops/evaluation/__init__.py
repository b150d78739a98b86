"""Full-ranking evaluation: protocols, metrics, baselines, significance."""
