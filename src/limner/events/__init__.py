"""Events: what happened, in one vocabulary, cleaned, and kept in an ordered log."""
