"""The service's settings: read once, strictly, into one frozen object."""

from watchstep_monitor.settings.schema import ReceiverSettings, Settings, TokenSettings
from watchstep_monitor.settings.sources import LoadedSettings, load_settings

__all__ = ["LoadedSettings", "ReceiverSettings", "Settings", "TokenSettings", "load_settings"]
