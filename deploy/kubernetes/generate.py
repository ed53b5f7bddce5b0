"""Write the PrometheusRule from Prometheus' own rule files.

Without arguments it writes it; with `--check` it writes nothing and exits 1 if it is out of date.
Needs ruamel.yaml, which the project itself does.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from ruamel.yaml import YAML

HERE = Path(__file__).parent
SOURCES = ("recording.rules.yml", "alert.rules.yml")
TARGET = HERE / "components" / "monitoring" / "prometheusrule.yaml"
HEAD = "# Made by deploy/kubernetes/generate.py from deploy/prometheus/*.rules.yml.\n"


def rendered() -> str:
    """The manifest's text: the groups of all rule files, in order."""
    reader = YAML(typ="safe", pure=True)
    groups = [
        group
        for source in SOURCES
        for group in reader.load((HERE.parent / "prometheus" / source).read_text("utf-8"))["groups"]
    ]
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.width = 1000
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    writer.dump(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "watchstep"},
            "spec": {"groups": groups},
        },
        text,
    )
    return HEAD + text.getvalue()


def main(check: bool) -> int:
    """Write, or only compare; returns the exit code."""
    text = rendered()
    if TARGET.exists() and TARGET.read_text("utf-8") == text:
        return 0
    if check:
        sys.stdout.write(f"{TARGET.name}: out of date\n")
        return 1
    TARGET.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
