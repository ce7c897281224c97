"""Configuration for the proxy in front, so that requests which are no seam's never pay for the Python hop."""

from __future__ import annotations

from .exporter import EXPORTERS, Exporter

__all__ = ["EXPORTERS", "Exporter"]
