"""Metrics and splits as pure functions: what was ranked, what came true, and how sure that is."""
