"""The data logic: pure functions on Arrow data that every engine calls."""
