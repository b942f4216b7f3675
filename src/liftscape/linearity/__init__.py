"""linearity."""
