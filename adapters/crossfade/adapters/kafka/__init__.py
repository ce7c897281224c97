"""The bus on Apache Kafka: ``kafka://host:port[,host:port...]``; needs the extra ``kafka``."""

from crossfade.shim.errors import MissingExtraError

try:
    import aiokafka as _  # noqa: F401 - asked for by name, so that the remedy is ours
except ImportError as error:
    raise MissingExtraError("kafka", needed_for="the bus kafka://") from error

from .bus import KafkaBus, open_bus

__all__ = ["KafkaBus", "open_bus"]
