"""The service's settings: read once, strictly, into one frozen object."""

from watchstep_monitor.settings.schema import (
    AlertSettings,
    AuthSettings,
    CommandSettings,
    GaugeSettings,
    LimitSettings,
    LogSettings,
    NotifySettings,
    ReceiverSettings,
    RetentionSettings,
    RuleSettings,
    Settings,
    StallSettings,
    StoreSettings,
    TokenSettings,
)
from watchstep_monitor.settings.sources import LoadedSettings, load_settings

__all__ = [
    "AlertSettings",
    "AuthSettings",
    "CommandSettings",
    "GaugeSettings",
    "LimitSettings",
    "LoadedSettings",
    "LogSettings",
    "NotifySettings",
    "ReceiverSettings",
    "RetentionSettings",
    "RuleSettings",
    "Settings",
    "StallSettings",
    "StoreSettings",
    "TokenSettings",
    "load_settings",
]
