"""Which tests share a process: those of one file, and each page of the documentation for itself.

Files begin in the order of their names, so that ``unit``, whose files are short, comes last and no long one is alone.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

ALONE = ("test_every_block_of_a_page_runs[",)


class Sharing(LoadFileScheduling):
    """By file, but what is ``ALONE`` by itself."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if any(name in nodeid for name in ALONE) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False
    return Sharing(config, log)
