"""Where events, items and users come from: files, tables in memory and HTTP payloads."""
