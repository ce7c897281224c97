"""LaunchDarkly's migrator with the flag at ``off``, which is legacy; flags from memory, no events sent."""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ldclient: Any = importlib.import_module("ldclient")
config: Any = importlib.import_module("ldclient.config")
testing: Any = importlib.import_module("ldclient.integrations.test_data")
migrations: Any = importlib.import_module("ldclient.migrations")
SETTING = "stage off, test data source, no events"


@contextmanager
def opened(_runner: object, question: dict[str, Any]) -> Generator[Callable[[], object]]:
    """One read through the migrator."""
    flags = testing.TestData.data_source()
    flags.update(flags.flag("search").variations(*(stage.value for stage in migrations.Stage)).variation_for_all(0))
    client = ldclient.LDClient(config.Config("bench", update_processor_class=flags, send_events=False))
    builder = migrations.MigratorBuilder(client)
    migrator = builder.read(_old, _old).write(_old, _old).build()
    context = ldclient.Context.create("alice")
    first = next(iter(migrations.Stage))
    if (stage := client.migration_variation("search", context, migrations.Stage.LIVE)[0]) is not first:
        raise RuntimeError(f"the flag says {stage}, not {first}")
    try:
        yield lambda: migrator.read("search", context, migrations.Stage.LIVE, question)
    finally:
        client.close()


def _old(question: dict[str, Any]) -> Any:
    return ldclient.Result.success(_plain(question))


def _plain(question: dict[str, Any], limit: int = 5) -> int:  # noqa: ARG001 - as ours
    return limit
