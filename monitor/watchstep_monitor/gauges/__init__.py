"""What Prometheus scrapes: the service's own counts, and the state of every run."""

from watchstep_monitor.gauges.exposition import CONTENT_TYPE, Exposition, ServiceState
from watchstep_monitor.gauges.instruments import Instruments

__all__ = ["CONTENT_TYPE", "Exposition", "Instruments", "ServiceState"]
