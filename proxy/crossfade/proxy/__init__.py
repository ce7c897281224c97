"""The reverse proxy in front of HTTP services, and the control API beside it."""
