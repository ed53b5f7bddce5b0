"""How an update travels: as JSON to the service, packed in the trainer's spool.

Standard library only: both the trainer and the service speak through this package.
"""

from __future__ import annotations

from watchstep.wire.names import (
    METRIC_NAME,
    RUN_NAME,
    SOURCE_NAME,
    legal_metric_name,
    legal_project_name,
    legal_run_name,
    legal_tag_name,
)
from watchstep.wire.packed import (
    Frame,
    Packer,
    Record,
    Unpacker,
    frame,
    scan,
    seq_of,
    step_and_time,
)
from watchstep.wire.rows import ROWS_TYPE, Block, Parcel, encode_rows, row_updates, split_rows
from watchstep.wire.text import (
    decode_update,
    encode_batch,
    encode_update,
    event_to_json,
    number_from_json,
    number_to_json,
    to_json,
    with_source,
)

__all__ = [
    "METRIC_NAME",
    "ROWS_TYPE",
    "RUN_NAME",
    "SOURCE_NAME",
    "Block",
    "Frame",
    "Packer",
    "Parcel",
    "Record",
    "Unpacker",
    "decode_update",
    "encode_batch",
    "encode_rows",
    "encode_update",
    "event_to_json",
    "frame",
    "legal_metric_name",
    "legal_project_name",
    "legal_run_name",
    "legal_tag_name",
    "number_from_json",
    "number_to_json",
    "row_updates",
    "scan",
    "seq_of",
    "split_rows",
    "step_and_time",
    "to_json",
    "with_source",
]
