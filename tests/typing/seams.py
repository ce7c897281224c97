"""What the type checkers must accept and infer; never executed."""
