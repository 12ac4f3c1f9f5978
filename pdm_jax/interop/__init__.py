"""Names and shapes of the official checkpoints and ours; whatever does not match is an error that lists it."""
