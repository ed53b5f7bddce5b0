"""Saving and restoring sharded state: every process calls these at once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from watchstep.checkpoint.collective import Ranks, TogetherError
from watchstep.checkpoint.durable import temporary
from watchstep.checkpoint.finite import inspect
from watchstep.checkpoint.folder import Folder
from watchstep.checkpoint.plain import plain, rng_state, set_rng_state
from watchstep.checkpoint.reading import read_kept, vouched
from watchstep.checkpoint.record import Checkpoint, Finiteness, PassedOver
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
    """Keep a sharded state if it is finite in every process; the leading one's draft counts.

    Raises:
        CheckpointError: In all of them, if one failed or died.
    """
    content: dict[str, Any] = {}

    def look() -> Finiteness:
        content.update({name: plain(value, name) for name, value in state.items()})
        return inspect(content, draft.unchecked)

    looks = ranks.agreed(look)
    draft = ranks.led(lambda: draft)
    bad = [f"rank {rank}: {f.bad_tensor}" for rank, f in enumerate(looks) if f.bad_tensor]
    draft = draft.judged(
        Finiteness(
            tensors=max(finiteness.tensors for finiteness in looks),
            bad_tensor=bad[0] if bad else None,
            nonfinite=sum(finiteness.nonfinite for finiteness in looks),
        )
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
    targets: Mapping[str, Any],
    candidates: Sequence[Checkpoint],
    ranks: Ranks,
    passed: list[PassedOver],
    *,
    rng: bool,
) -> Checkpoint | None:
    """Load the first of the candidates that is intact and finite, in every process or in none.

    Args:
        targets: As for `CheckpointKeeper.restore`.
        candidates: Best first; the leading process's count.
        ranks: Their number need not be that of the save.
        passed: Gets the candidates before it.
        rng: Whether each puts its global random generators back.

    Raises:
        CheckpointError: In all of them, if it does not fit the targets of one, or one died.
    """
    content: dict[str, Any] = {}
    for candidate in ranks.led(lambda: list(candidates)):
        try:
            ranks.agreed(functools.partial(_check, candidate, ranks))
            ranks.agreed(functools.partial(_read, candidate, targets, ranks, content))
        except TogetherError as error:
            passed.append((candidate, str(error), error.damaged))
            continue
        _load_everywhere(targets, content["state"], ranks)
        if rng:
            set_rng_state(content["rng"])
        return candidate
    return None


def _check(candidate: Checkpoint, ranks: Ranks) -> None:
    """Each process checks its share of the files; one that was saved whole is read by all."""
    manifest = vouched(candidate.path)
    check_parts(manifest, manifest.parts[ranks.rank :: ranks.world])


def _read(
    candidate: Checkpoint, targets: Mapping[str, Any], ranks: Ranks, content: dict[str, Any]
) -> None:
    if candidate.parts:
        with refused(candidate.path):
            content.update(read_shards(candidate.path, targets, rank=ranks.rank))
        check_finite(content["state"], str(candidate.path), candidate.unchecked)
        return
    _, whole = read_kept(candidate.path)
    content.update(whole, state=sharded_like(targets, whole["state"]))


def _load_everywhere(targets: Mapping[str, Any], state: Mapping[str, Any], ranks: Ranks) -> None:
    undo: list[Callable[[], None]] = []
    try:
        ranks.agreed(lambda: undo.append(load_all(targets, state)))
    except TogetherError:
        for undo_all in undo:
            undo_all()
        raise
