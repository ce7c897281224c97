"""Desk answers questions about Python from the documentation that is installed with Python itself."""
