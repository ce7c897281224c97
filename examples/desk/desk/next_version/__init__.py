"""The next versions of the desk's seams, not released yet, each with a bug that nobody has noticed.

A worker that imports one of these runs it instead of the old code, as `crossfade demo --regression SEAM` does.
"""
