"""Tools for developers: generated documentation, audit of results."""
