"""Rule files, packs and the tools around them."""

from watchstep.rules.files import RuleFile, combine, load, packs, read_source, read_text

__all__ = ["RuleFile", "combine", "load", "packs", "read_source", "read_text"]
