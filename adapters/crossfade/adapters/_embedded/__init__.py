"""The processes behind ``embedded://``; all but ``binary`` are standard library only.

``store`` names the files, ``starter`` and ``keeper`` run as processes of their own (``python -I -S``, so they
start in milliseconds and hold little memory), ``wire`` speaks to the server, ``processes`` knows which one it is.
"""
