"""Programs that type checkers read: `mypy` takes them along; nothing runs them."""
