"""Kill a trainer at random moments, and count what the service has of it in the end.

    python benchmarks/trainer_kills.py [--kills 200]

Each trainer logs as fast as it can to a real service, says which `log` returned, and is killed
with SIGKILL after up to half a second; every tenth dies without a service. A replay follows. Lost
is an update whose `log` returned and that the service does not have; doubled is one that it has
twice. Exits 1 if there is either.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from service.http_kit import Client, served
from watchstep.sender.replay import replay

TRAINER = """
import os, sys, watchstep
watch = watchstep.init(run=sys.argv[1], directory=sys.argv[2], url=sys.argv[3] or None)
for number in range(1, 1_000_000):
    watch.log({"train/loss": 1.0 / number, "train/grad_norm": 0.5}, step=number)
    os.write(1, b"%d\\n" % number)
"""


def killed(run: str, spool: Path, url: str, delay_s: float) -> int:
    """How many calls of `log` returned to a trainer that was killed this long after its first."""
    command = [sys.executable, "-c", TRAINER, run, str(spool), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as trainer:
        assert trainer.stdout is not None
        output = os.read(trainer.stdout.fileno(), 1)
        end = time.monotonic() + delay_s
        # Read on, or the trainer would wait for room in the pipe.
        while (left_s := end - time.monotonic()) > 0:
            if select.select([trainer.stdout], [], [], left_s)[0]:
                output += os.read(trainer.stdout.fileno(), 1 << 16)
        trainer.kill()
        output += trainer.stdout.read()
    return output.count(b"\n")


def stored(client: Client, run: str, returned: int) -> list[int]:
    """The numbers of the updates that the service has."""
    series = client.get(f"/runs/{run}/series?metric=train/loss&points=1000000").json
    assert not series["thinned"], f"{run}: {returned} updates are more than are told one by one"
    return [point["seq"] for point in series["points"]]


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    chosen = parser.parse_args()
    generator = random.Random(1)
    returned = lost = doubled = unsaid = 0
    settings = {"WATCHSTEP_LIMITS__SERIES_POINTS": "100000"}
    with tempfile.TemporaryDirectory() as name, served(Path(name) / "s", **settings) as service:
        url = f"http://127.0.0.1:{service.client.port}"
        for kill in range(chosen.kills):
            run, spool = f"killed-{kill}", Path(name) / f"spool-{kill}"
            count = killed(run, spool, "" if kill % 10 == 9 else url, generator.random() / 2)
            result = replay(spool, url=url, token=None)
            assert result.failure is None, result.failure
            have = stored(service.client, run, count)
            returned += count
            lost += len(set(range(1, count + 1)) - set(have))
            doubled += len(have) - len(set(have))
            # The kill may fall between the write and the line that tells of it.
            unsaid += len([seq for seq in have if seq > count])
    print(f"trainers killed              {chosen.kills}")
    print(f"calls of log that returned   {returned}")
    print(f"lost, doubled                {lost}, {doubled}")
    print(f"stored though not yet told   {unsaid}")
    sys.exit(1 if lost or doubled else 0)


if __name__ == "__main__":
    main()
