"""The data logic: pure functions on Arrow data; all engines call them."""
