"""What an app's seams say on the bus as documents: AsyncAPI 3, JSON Schemas, and what breaks between two versions."""

from .asyncapi import Contract, asyncapi, of_seam
from .compatibility import Change, compare

__all__ = ["Change", "Contract", "asyncapi", "compare", "of_seam"]
