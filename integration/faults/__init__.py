"""Things that go wrong on purpose."""
