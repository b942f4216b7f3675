"""Public diagnostics."""
