"""Saving and restoring sharded state: every process calls these at once."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from watchstep.checkpoint.collective import Ranks, TogetherError
from watchstep.checkpoint.durable import temporary
from watchstep.checkpoint.finite import inspect
from watchstep.checkpoint.folder import Folder
from watchstep.checkpoint.plain import plain, rng_state, set_rng_state
from watchstep.checkpoint.reading import read_kept, vouched
from watchstep.checkpoint.record import Checkpoint
from watchstep.checkpoint.shards import (
    check_parts,
    read_shards,
    sealed,
    sharded_like,
    write_shards,
)
from watchstep.checkpoint.targets import load_all
from watchstep.checkpoint.untrusted import check_finite, refused


def save_together(
    state: Mapping[str, Any], draft: Checkpoint, folder: Folder, ranks: Ranks
) -> Checkpoint:
    """Keep a sharded state if it is finite in every process.

    Args:
        state: As for `CheckpointKeeper.save`.
        draft: What is known of the checkpoint before; the leading process's counts.
        folder: One that all processes see.
        ranks: All processes.

    Raises:
        CheckpointError: In all of them, if one failed or died.
    """
    content: dict[str, Any] = {}

    def look() -> tuple[str | None, int, int]:
        content.update({name: plain(value, name) for name, value in state.items()})
        finiteness = inspect(content, draft.unchecked)
        return finiteness.bad_tensor, finiteness.nonfinite, finiteness.tensors

    seen = ranks.agreed(look)
    draft = ranks.led(lambda: draft)
    bad = [f"rank {rank}: {name}" for rank, (name, _, _) in enumerate(seen) if name is not None]
    draft = dataclasses.replace(
        draft,
        finite=not bad,
        bad_tensor=bad[0] if bad else None,
        nonfinite=sum(count for _, count, _ in seen),
        tensors=max(tensors for _, _, tensors in seen),
    )
    if bad:
        return draft
    whole = {"step": draft.step, "update": draft.update, "state": content, "rng": rng_state()}
    with contextlib.ExitStack() as unfinished:
        made = temporary(draft.path.parent, folder=True)
        place = ranks.led(lambda: unfinished.enter_context(made))
        written = ranks.agreed(lambda: write_shards(place, whole, ranks))
        parts = tuple(part for of_rank in written for part in of_rank)
        draft = dataclasses.replace(draft, parts=parts)
        size_bytes = sum(part.size_bytes for part in parts)
        return ranks.led(lambda: folder.publish(draft, place, size_bytes, sealed(parts)))


def restore_together(
    targets: Mapping[str, Any], candidates: Sequence[Checkpoint], ranks: Ranks, *, rng: bool
) -> tuple[Checkpoint | None, list[tuple[Checkpoint, str, bool]]]:
    """Load the first of the candidates that is intact and finite, in every process or in none.

    Args:
        targets: As for `CheckpointKeeper.restore`.
        candidates: Best first; the leading process's count.
        ranks: All processes; their number need not be that of the save.
        rng: Whether each puts its global random generators back.

    Returns:
        The one that was loaded, None if there is none; and those that were passed over, why,
        and whether they are damaged.

    Raises:
        CheckpointError: In all of them, if it does not fit the targets of one, or one died.
    """
    passed: list[tuple[Checkpoint, str, bool]] = []
    content: dict[str, Any] = {}
    for candidate in ranks.led(lambda: list(candidates)):
        try:
            ranks.agreed(lambda tried=candidate: _check(tried, ranks))  # type: ignore[misc]
            ranks.agreed(lambda tried=candidate: content.update(_read(tried, targets, ranks)))  # type: ignore[misc]
        except TogetherError as error:
            passed.append((candidate, str(error), error.damaged))
            continue
        _load_everywhere(targets, content["state"], ranks)
        if rng:
            set_rng_state(content["rng"])
        return candidate, passed
    return None, passed


def _check(candidate: Checkpoint, ranks: Ranks) -> None:
    """Each process checks its share of the files; one that was saved whole is read by all."""
    manifest = vouched(candidate.path)
    check_parts(manifest, manifest.parts[ranks.rank :: ranks.world])


def _read(candidate: Checkpoint, targets: Mapping[str, Any], ranks: Ranks) -> dict[str, Any]:
    if not candidate.parts:
        _, whole = read_kept(candidate.path)
        return {**whole, "state": sharded_like(targets, whole["state"])}
    with refused(candidate.path):
        content = read_shards(candidate.path, targets, rank=ranks.rank)
    check_finite(content["state"], str(candidate.path), candidate.unchecked)
    return content


def _load_everywhere(targets: Mapping[str, Any], state: Mapping[str, Any], ranks: Ranks) -> None:
    undo: list[Callable[[], None]] = []
    try:
        ranks.agreed(lambda: undo.append(load_all(targets, state)))
    except TogetherError:
        for undo_all in undo:
            undo_all()
        raise
