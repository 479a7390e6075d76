"""Models: families of scores, their blend, and its artifacts."""
