"""Fault injection for tests."""
