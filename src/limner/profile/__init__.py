"""Facets and the portraits made of them."""
