"""A program of the operator's, which reads the webhook's body from its input."""

from __future__ import annotations

import asyncio
import os

from watchstep_monitor.notify.outcomes import Answer, Refused, Taken


async def run(path: str, body: str) -> Answer:
    """Run it; exit code 0 is success, and its output is thrown away.

    Whoever cancels this, such as the worker's limit on an attempt, ends the program.
    """
    nowhere = asyncio.subprocess.DEVNULL
    try:
        program = await asyncio.create_subprocess_exec(
            path,
            stdin=asyncio.subprocess.PIPE,
            stdout=nowhere,
            stderr=nowhere,
            # None of the service's own environment, which may hold secrets.
            env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        )
    except OSError as error:
        return Refused(f"cannot be run: {(error.strerror or 'unknown').lower()}")
    try:
        await program.communicate(body.encode())
    except asyncio.CancelledError:
        program.kill()
        await program.wait()
        raise
    if program.returncode == 0:
        return Taken()
    return Refused(f"exit code {program.returncode}")
