"""A bus inside this process, for tests: the semantics of the real one, and failures on demand.

    memory://NAME    one broker per name in this process; ``broker("NAME")`` is its handle
    memory://        a broker of its own

Nothing is written to disk and nothing is ever aged out. ``MemoryBroker`` injects failures: ``stop``, ``start``,
``fail_next``, ``delay``, ``lose_replies``.
"""

from ._broker import MemoryBroker, broker, forget
from ._bus import MemoryBus, open_bus
from ._faults import Operation
from ._stream import Message

__all__ = ["MemoryBroker", "MemoryBus", "Message", "Operation", "broker", "forget", "open_bus"]
