"""Writing a checkpoint so that it is there whole, vouched for, or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from watchstep.checkpoint.durable import (
    HashedFile,
    in_thread,
    sync_directory,
    temporary,
    write_synced,
)
from watchstep.checkpoint.folder import Folder
from watchstep.checkpoint.record import Checkpoint, manifest_bytes, manifest_path


def publish(
    folder: Folder, fill: Callable[[HashedFile], object], look: Callable[[], Checkpoint]
) -> Checkpoint:
    """Write a file and its manifest, if its numbers are finite.

    Args:
        folder: Where they go.
        fill: Writes the file.
        look: Looks at the numbers meanwhile; what it returns is what is known of the checkpoint.

    Returns:
        The checkpoint, durable; with `finite=False` and nothing written if it is not finite.
    """
    directory = folder.path
    with temporary(directory) as body, temporary(directory) as manifest:
        # Hashing is what takes longest, so there is time for a look at the numbers before a
        # name, and a manifest that vouches for them, is given to what was written.
        with in_thread("watchstep-finite", look) as looked:
            written = write_synced(body, fill)
        checkpoint = looked()
        if not checkpoint.finite:
            return checkpoint
        durable = dataclasses.replace(
            checkpoint,
            size_bytes=written.size_bytes,
            sha256=written.sha256(),
            serial=folder.next_serial(),
        )
        vouching = manifest_bytes(durable)
        write_synced(manifest, lambda stream: stream.write(vouching))
        body.replace(durable.path)
        manifest.replace(manifest_path(durable.path))
        sync_directory(directory)
    return durable
