"""What a trainer's last words mean: the one place where an error's text is read."""

from __future__ import annotations

import re

SAYS_NONFINITE = re.compile(
    r"\bnan\b|\binf(?:inity|inite)?\b|non-?finite|satisfy the constraint|found invalid values|"
    r"expected parameter \w+ \(tensor|invalid multinomial distribution|"
    r"normal expects all elements of std|loss (?:is )?(?:probably )?(?:explod|diverg)|"
    r"loss scale (?:reached|already at) (?:the )?minimum|minimum loss scale",
    re.IGNORECASE,
)
"""An error that only numbers cause which are lost. Words of PyTorch's distributions and
samplers, fairseq, DeepSpeed and Apex."""

SAYS_SCALE_EXHAUSTED = re.compile(
    r"loss scale (?:reached|already at) (?:the )?minimum|minimum loss scale", re.IGNORECASE
)
"""A loss scaler that has halved its scale to the end gave up: fairseq, DeepSpeed."""
