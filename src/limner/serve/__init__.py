"""The HTTP API: events in, portraits, recommendations and reasons out."""
