"""Evaluation: what was predicted against what came next, beside baselines."""
