"""Replay: recorded calls run again by today's code, and compared with how they ended."""
