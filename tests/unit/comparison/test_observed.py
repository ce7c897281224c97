from __future__ import annotations

import pytest

from crossfade.shim.comparison import Outcome
from crossfade.shim.outcomes import ErrorRecord


def test_an_error_without_its_record_is_refused():
    """It would be compared as the value null."""
    with pytest.raises(ValueError, match="exactly when its kind is 'error'"):
        Outcome(kind="error")


def test_a_value_with_an_error_is_refused():
    """It could be compared either way."""
    with pytest.raises(ValueError, match="exactly when its kind is 'error'"):
        Outcome(kind="value", error=ErrorRecord(type="ValueError", message=""))
