"""What a backend tests itself with: contract suites, and a process that is killed while it writes.

Nothing in the package imports it; a test suite does.
"""
