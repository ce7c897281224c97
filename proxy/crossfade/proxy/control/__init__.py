"""The control plane: API over seams and tasks, and the stream that a user's page reads."""
