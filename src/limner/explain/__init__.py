"""Why: what moved a score, in events and slots, each checked by taking it away."""
