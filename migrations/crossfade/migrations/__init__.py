"""Playbooks, gates, traces, replay, and the command line that composes the other parts."""
