"""Does it train better? Many optimizers on the same tasks, by the same rules; see docs/race.md."""
