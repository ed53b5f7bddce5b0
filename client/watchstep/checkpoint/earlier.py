"""What an earlier attempt left in a directory of checkpoints, and how long it stays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from watchstep.checkpoint.folder import Folder
from watchstep.checkpoint.record import Checkpoint


@dataclass(slots=True)
class EarlierAttempt:
    """The best checkpoint that was there when a keeper began, and those next to it.

    Attributes:
        reference: The pin, or without one the newest that was not under an alert.
        names: Of it and those next to it, `keep` of them at most: retention leaves these alone.
        is_resumed: Whether the new attempt was restored from the reference, or from a later one.
    """

    reference: Checkpoint
    names: set[str]
    is_resumed: bool = False

    @classmethod
    def in_folder(cls, folder: Folder, keep: int, attempt: str) -> EarlierAttempt | None:
        """What others than this attempt have left in a folder; None where nothing good is."""
        good = [checkpoint for checkpoint in folder.good() if checkpoint.attempt != attempt]
        if not good:
            return None
        reference = good[0]
        # A run that fails and begins anew for ever must not fill the disk.
        nearest = sorted(
            folder.checkpoints(), key=lambda c: (abs(c.serial - reference.serial), -c.serial)
        )
        return cls(reference, {c.path.name for c in nearest[:keep]})

    @property
    def best(self) -> str:
        """The reference's name, which its pin has too."""
        return self.reference.path.name

    def restored(self, checkpoint: Checkpoint) -> None:
        """Tell that the new attempt was restored from a checkpoint."""
        self.is_resumed = self.is_resumed or checkpoint.serial >= self.reference.serial

    def is_surpassed(self, pin: Checkpoint) -> bool:
        """Whether a new pin is better: it goes on from the reference, or has come as far."""
        return self.is_resumed or pin.step >= self.reference.step

    def hint(self, directory: Path) -> str:
        """One sentence for whoever starts the new attempt."""
        proven = "the pin" if self.reference.pinned else "not yet proven good"
        others = len(self.names - {self.best})
        more = f" and {others} more" if others else ""
        return (
            f"{directory} holds a checkpoint of step {self.reference.step} ({proven}){more} of an"
            " earlier start: watch.restore({...}) goes on from it; without that they stay until"
            " this run has come as far"
        )
