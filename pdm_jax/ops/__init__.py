"""Pure array functions: no parameters, no state."""
