"""The demo: a real desk under real traffic, one seam moved, one worker killed, the desk's own journal as judge.

No code of crossfade knows that it is a demo: the desk is user code that is copied and started as a user would.
"""
