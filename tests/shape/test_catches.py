"""Every catch of whatever may be raised has its reason here; there are no others."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client" / "watchstep"
MONITOR = ROOT / "monitor" / "watchstep_monitor"
BROAD = {"Exception", "BaseException"}
REASONS = {
    "boundary.survive": "the line between watchstep and the training loop",
    "boundary.of_stranger": "a stranger's object: its text, its number, its fields",
    "checkpoint/durable.run": "raised again in the thread that waits for it",
    "checkpoint/keeper.write": "a thread: told at the next update",
    "checkpoint/collective.agreed": "raised again in every process, none of which may wait in vain",
    "checkpoint/untrusted.refused": "a stranger's bytes: told by the file's name",
    "checkpoint/targets.load_all": "all targets are put back, then CheckpointError",
    "hook/options.from_environment": "an argument is a stranger's code; it costs that argument",
    "hook/watch_checkpoints.save": "told to people whatever it is, and raised again",
    "hook/watch_checkpoints.restore": "CheckpointError, the only one that a restore may raise",
    "integrations/callback_base.told": "told as the run's end, and raised again",
    "integrations/rllib.told": "told as the run's end, and raised again",
    "sender/loop._guarded_turn": "the sender's loop: counted, tried again",
    "sender/outbound.close": "the end of a run",
    "sender/outbound.put": "the one call on the way of every update",
}
MONITOR_REASONS = {
    "http/envelope.__call__": "the outermost place of a request: whatever went wrong is a problem",
    "notify/targets.run": "carried over to the task that waits",
    "notify/worker._attempt": "around one delivery",
    "notify/worker._in_store": "around the worker's loop: nobody is told anything once it dies",
    "store/writer._attempt": "whatever a job raises is its caller's",
    "store/writer._commit_one": "whatever a job raises is its caller's",
}
ENDS_A_BLOCK = {"boundary.__exit__": "the same line, for a block"}


def _named(path: Path, function: str, root: Path = CLIENT) -> str:
    return f"{path.relative_to(root).with_suffix('')}.{function}"


def _innermost(tree: ast.AST, wanted: ast.AST) -> str:
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(inner is wanted for inner in ast.walk(node))
    ]
    return max(around, key=lambda node: node.lineno).name


def _is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return caught is None or any(isinstance(name, ast.Name) and name.id in BROAD for name in names)


@pytest.mark.parametrize(
    ("root", "reasons"), [(CLIENT, REASONS), (MONITOR, MONITOR_REASONS)], ids=["client", "monitor"]
)
def test_each_broad_catch_is_listed_with_its_reason(root: Path, reasons: dict[str, str]) -> None:
    caught: Counter[str] = Counter()
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and _is_broad(node):
                caught[_named(path, _innermost(tree, node), root)] += 1

    assert caught == Counter(dict.fromkeys(reasons, 1))


def test_one_context_manager_alone_swallows_what_ends_its_block() -> None:
    swallowing = set()
    for path in CLIENT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "__exit__":
                returns = node.returns
                if not (isinstance(returns, ast.Constant) and returns.value is None):
                    swallowing.add(_named(path, node.name))

    assert swallowing == set(ENDS_A_BLOCK)
