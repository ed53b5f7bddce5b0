"""A trainer that logs until it is killed; says on stdout which `put` has returned.

Arguments: spool folder, "none" or a URL, a limit on the size of any file or 0.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from watchstep.core.updates import Update
from watchstep.sender import Outbound, OutboundConfig


def main(directory: str, url: str, file_limit: str) -> None:
    if int(file_limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_limit), int(file_limit)))
    trainer = Outbound(
        OutboundConfig(
            run="r", url=None if url == "none" else url, directory=Path(directory), flush_s=0.01
        )
    )
    seq = 0
    while True:
        seq += 1
        trainer.put(Update(seq, seq, 1.7e9 + seq, {"a": seq * 0.1, f"b{seq % 3}": float(seq)}))
        os.write(1, b"%d\n" % seq)


if __name__ == "__main__":
    main(*sys.argv[1:])
