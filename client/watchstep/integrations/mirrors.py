"""What a program logs to a tracker already is judged too, in one line or none.

    watchstep.integrations.mirror("wandb", on_critical="halt")

or, without a line of code, `WATCHSTEP_MIRROR=wandb watchstep run -- python train.py`. The tracker
gets what it always got, before it is judged. A run of the tracker's is a run of watchstep's, with
its name, steps and metric names.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any, NamedTuple

from watchstep.boundary import Boundary, of_stranger
from watchstep.errors import warn

_boundary = Boundary("a mirror of watchstep's")
_lock = threading.RLock()
_mirrored: dict[str, Mirror] = {}


def mirror(*libraries: str, watch: Any = None, **options: Any) -> None:
    """Have what these libraries are given judged, and sent, from now on.

    An update is what was logged at one step. It is judged when its end is seen: at once where the
    tracker counts steps itself, otherwise with the first value of another step, or with a second
    value of one name.

    Args:
        libraries: Of "wandb", "mlflow", "trackio", "tensorboard", "aim" and "swanlab". One that is
            not installed, or not known in its version, is warned of and left alone.
        watch: Made by `watchstep.init`, for all of them; the caller finishes it. None: one is made
            for each run of the tracker's and ends with it.
        options: Arguments of `watchstep.init` for those that are made.

    Raises:
        TrainingHalted: Later, out of the tracker's own call, when a halt was asked for.
    """
    for library in libraries:
        targets = _TARGETS.get(library)
        if targets is None:
            warn(f"watchstep mirrors {', '.join(_TARGETS)}, and no {library!r:.40}")
            continue
        if not any(_is_there(target.module) for target in targets):
            warn(f"watchstep mirrors nothing of {library}, which is not installed")
            continue
        _mirrored[library] = Mirror(library, watch, options)
        for target in targets:
            _when_imported(target.module, functools.partial(_attach, library, target))


def mirror_named_in_environment() -> None:
    """Mirror what WATCHSTEP_MIRROR names, with commas between."""
    names = os.environ.get("WATCHSTEP_MIRROR", "").replace(",", " ").split()
    if os.environ.get("WATCHSTEP_MODE") != "disabled":
        mirror(*names)


class Mirror:
    """One library's runs, each with the watch that judges it."""

    def __init__(self, library: str, watch: Any, options: Mapping[str, Any]) -> None:
        self.library = library
        self._watch = watch
        self._options = options
        self._runs: dict[str, MirroredRun] = {}

    def run(self, key: str, describe: Callable[[], dict[str, Any]]) -> MirroredRun:
        """The tracker's run of that key; a watch is made for one that is new."""
        return self._runs.get(key) or self._begun(key, describe)

    def _begun(self, key: str, describe: Callable[[], dict[str, Any]]) -> MirroredRun:
        with _lock:
            if key not in self._runs:
                description: dict[str, Any] = of_stranger(describe, {})
                # A person's words for a run may have spaces, which is nothing to warn of.
                name = re.sub(r"[^A-Za-z0-9_.:-]+", "-", str(description.pop("run", None) or key))
                description["run"] = name.strip("-_.:") or None
                first_step = description.pop("first_step", 0)
                run = MirroredRun(self._watch or self._new_watch(description), first_step)
                # Comes before the watch's own, which ends it.
                atexit.register(run.judge)
                self._runs[key] = run
            return self._runs[key]

    def _new_watch(self, description: dict[str, Any]) -> Any:
        from watchstep.hook import init

        alone = not any(mirrored.is_at_work for mirrored in _mirrored.values())
        if os.environ.get("WATCHSTEP_RUN") and alone:
            description.pop("run", None)
        if os.environ.get("WATCHSTEP_PROJECT"):
            description.pop("project", None)
        version = getattr(sys.modules.get(self.library), "__version__", "")
        trainer = f"mirrored from {self.library} {version}".strip()
        return init(**{"trainer": trainer, **description, **self._options})

    @property
    def is_at_work(self) -> bool:
        return bool(self._runs)

    def finish(self, key: str) -> None:
        """Judge what is left of a run, and end it if its watch was made here."""
        run = self._runs.pop(key, None)
        if run is None:
            return
        from watchstep.hook.process import pending_exception

        atexit.unregister(run.judge)
        run.judge()
        if self._watch is None:
            run.watch.finish(sys.exc_info()[1] or pending_exception())

    def judge(self) -> None:
        for run in list(self._runs.values()):
            run.judge()


class MirroredRun:
    """Gathers the readings of a step, and has them judged when its end is seen."""

    def __init__(self, watch: Any, first_step: int = 0) -> None:
        self.watch = watch
        self.next_step = first_step
        self._readings: dict[str, Any] = {}
        self._step = first_step
        self._lock = threading.RLock()

    def add(
        self, readings: Mapping[str, Any], step: Any, *, done: bool, replaces: bool = False
    ) -> None:
        """Take readings of a step.

        Args:
            readings: Anything else among them is left out.
            step: None for the one after the last.
            done: Nothing more comes for this step.
            replaces: Whether a second value of a name replaces the first, as in wandb, rather
                than belonging to another update.
        """
        with self._lock:
            if step is None and done and not replaces:
                self.judge()
            number = self.next_step if step is None else int(step)
            if self._readings and (
                number != self._step
                or (not replaces and not self._readings.keys().isdisjoint(readings))
            ):
                self.judge()
                number = self.next_step if step is None else number
            self._step = self.next_step = number
            if self._readings or not done:
                self._readings.update(_numbers(readings))
                if done:
                    self.judge()
            else:
                self._log(_numbers(readings))

    def judge(self) -> None:
        with self._lock:
            if self._readings:
                readings, self._readings = self._readings, {}
                self._log(readings)

    def _log(self, readings: Mapping[str, Any]) -> None:
        self.next_step = self._step + 1
        if readings:
            self.watch.log(readings, step=self._step)


def _numbers(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without images, tables and texts; nested names joined by slashes, as the hook joins them."""
    if [*map(type, values.values())].count(float) == len(values):
        return values
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}/{inner}": part for inner, part in _numbers(value).items()})
        elif isinstance(value, int | float) or _is_number(value):
            flat[name] = value
    return flat


def _is_number(value: Any) -> bool:
    """Whether a tensor, array or number of another library's is one number."""
    shape: tuple[int, ...] = of_stranger(lambda: tuple(value.shape), ())
    return hasattr(value, "__float__") and all(length == 1 for length in shape)


# How each library is seen. A function gets the mirror, the object and the call's arguments.


def _wandb_log(
    mirror: Mirror, run: Any, data: Any, step: Any = None, commit: Any = None, *_: Any, **__: Any
) -> None:
    def describe() -> dict[str, Any]:
        name = f"{run.name}-{run.id}" if run.name else run.id
        config = {"run": name, "project": run.project, "config": dict(run.config)}
        return {**config, "first_step": run.starting_step}

    mirrored = mirror.run(run.id, describe)
    # wandb drops what is logged at a step behind its own.
    if step is None or step >= mirrored.next_step:
        done = bool(commit) or (step is None and commit is None)
        mirrored.add(data, step, done=done, replaces=True)


def _dict_log(mirror: Mirror, run: Any, *values: Any, **named: Any) -> None:
    """For trackio and SwanLab: a mapping a call, and a step that they count unless it is given."""
    # The mapping is called `metrics` there and `data` here.
    readings: Any = values[0] if values else named.get("metrics", named.get("data"))
    step = named.get("step", values[1] if len(values) > 1 else None)
    mirrored = mirror.run(run.id, lambda: {"run": run.name, **_project_of(run)})
    mirrored.add(readings, step, done=step is None)


def _project_of(run: Any) -> dict[str, Any]:
    project = getattr(run, "project", None)
    return {"project": project} if isinstance(project, str) else {}


def _mlflow_metric(
    mirror: Mirror, _client: Any, run_id: str, key: str, value: Any, *rest: Any, **named: Any
) -> None:
    step = named.get("step", rest[1] if len(rest) > 1 else None)
    _mlflow_run(mirror, run_id).add({key: value}, step, done=False)


def _mlflow_batch(
    mirror: Mirror, _client: Any, run_id: str, metrics: Any = (), *_: Any, **__: Any
) -> None:
    by_step: dict[int, dict[str, float]] = {}
    for metric in metrics:
        # What it measures of the machine comes from a thread with steps of its own.
        if not metric.key.startswith("system/"):
            by_step.setdefault(metric.step, {})[metric.key] = metric.value
    for step, readings in by_step.items():
        _mlflow_run(mirror, run_id).add(readings, step, done=False)


def _mlflow_run(mirror: Mirror, run_id: str) -> MirroredRun:
    def describe() -> dict[str, Any]:
        import mlflow

        active = mlflow.active_run()
        if active is None or active.info.run_id != run_id:
            return {"run": run_id}
        return {"run": f"{active.info.run_name}-{run_id[:8]}"}

    return mirror.run(run_id, describe)


def _mlflow_end(mirror: Mirror, _client: Any, run_id: str, *_: Any, **__: Any) -> None:
    mirror.finish(run_id)


def _writer_scalar(
    mirror: Mirror, writer: Any, tag: str, scalar_value: Any, global_step: Any = None, *_: Any,
    **__: Any,
) -> None:  # fmt: skip
    """Writers of one program, as for training and evaluation, speak for one run."""
    mirrored = mirror.run("", lambda: {"run": Path(writer.log_dir).name or None})
    mirrored.add({tag: scalar_value}, global_step, done=False)


def _writer_scalars(
    mirror: Mirror, writer: Any, main_tag: str, tag_scalar_dict: Any, global_step: Any = None,
    *_: Any, **__: Any,
) -> None:  # fmt: skip
    for tag, value in tag_scalar_dict.items():
        _writer_scalar(mirror, writer, f"{main_tag}/{tag}", value, global_step)


def _writer_pause(mirror: Mirror, _writer: Any, *_: Any, **__: Any) -> None:
    mirror.judge()


def _aim_track(
    mirror: Mirror, run: Any, value: Any, name: Any = None, step: Any = None, *_: Any, **more: Any
) -> None:
    named = value if isinstance(value, Mapping) else {name: value}
    subset = "/".join(str(part) for part in (more.get("context") or {}).values())
    readings = {f"{subset}/{key}" if subset else key: part for key, part in named.items()}
    mirrored = mirror.run(run.hash, lambda: {"run": run.name, "project": run.experiment})
    mirrored.add(readings, step, done=False)


def _aim_close(mirror: Mirror, run: Any, *_: Any, **__: Any) -> None:
    mirror.finish(run.hash)


def _run_finish(mirror: Mirror, run: Any, *_: Any, **__: Any) -> None:
    mirror.finish(run.id)


class _Target(NamedTuple):
    """A class of a library's whose calls are seen.

    Attributes:
        module: The class is looked up there once it has been imported.
        before: Calls that end something, of which the mirror hears first.
    """

    module: str
    name: str
    after: Mapping[str, Callable[..., None]]
    before: Mapping[str, Callable[..., None]] = {}


_WRITER = {"add_scalar": _writer_scalar, "add_scalars": _writer_scalars}
_PAUSES = {"flush": _writer_pause, "close": _writer_pause}
_TARGETS: Mapping[str, tuple[_Target, ...]] = {
    "wandb": (_Target("wandb", "Run", {"log": _wandb_log}, {"finish": _run_finish}),),
    "mlflow": (
        _Target(
            "mlflow.tracking.client",
            "MlflowClient",
            {"log_metric": _mlflow_metric, "log_batch": _mlflow_batch},
            {"set_terminated": _mlflow_end},
        ),
    ),
    "trackio": (_Target("trackio.run", "Run", {"log": _dict_log}, {"finish": _run_finish}),),
    "tensorboard": (
        _Target("torch.utils.tensorboard.writer", "SummaryWriter", {**_WRITER, **_PAUSES}),
        _Target("tensorboardX.writer", "SummaryWriter", {**_WRITER, **_PAUSES}),
    ),
    "aim": (_Target("aim.sdk.run", "Run", {"track": _aim_track}, {"close": _aim_close}),),
    "swanlab": (
        _Target("swanlab.sdk.internal.run", "Run", {"log": _dict_log}, {"finish": _run_finish}),
    ),
}


def _attach(library: str, target: _Target, module: Any) -> None:
    """Have a library's calls seen; a version that lacks one of them is left alone."""
    owner = getattr(module, target.name, None)
    lacking = [name for name in (*target.after, *target.before) if not hasattr(owner, name)]
    if owner is None or lacking:
        missing = ".".join([target.name, *lacking[:1]])
        warn(f"watchstep mirrors nothing of {library}: this version of it has no {missing}")
        return
    for name, see in (*target.after.items(), *target.before.items()):
        call = getattr(owner, name)
        if not hasattr(call, "mirrored_by_watchstep"):
            setattr(owner, name, _seen(library, call, see, first=name in target.before))
    if library == "wandb" and getattr(module, "run", None) is not None:
        module.log = module.run.log


def _seen(
    library: str, call: Callable[..., Any], see: Callable[..., None], *, first: bool
) -> Callable[..., Any]:
    """A call as it was, which the mirror of the library hears of too."""

    @functools.wraps(call)
    def seen(*args: Any, **named: Any) -> Any:
        if first:
            _boundary.survive(see, _mirrored[library], *args, **named)
            return call(*args, **named)
        # What halts the training is to be seen in the tracker too.
        result = call(*args, **named)
        _boundary.survive(see, _mirrored[library], *args, **named)
        return result

    vars(seen)["mirrored_by_watchstep"] = True
    return seen


def _is_there(module: str) -> bool:
    """Whether a module's package is installed, which is not imported for that."""
    package = module.partition(".")[0]
    return package in sys.modules or importlib.util.find_spec(package) is not None


def _when_imported(name: str, act: Callable[[Any], None]) -> None:
    """Do something with a module once it has been imported, now if it was."""
    if name in sys.modules:
        act(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Waiting(name, act))


class _Waiting(MetaPathFinder):
    """Finds nothing by itself: the others do, and the module is shown when it has been loaded."""

    def __init__(self, name: str, act: Callable[[Any], None]) -> None:
        self._name = name
        self._act = act

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        if name != self._name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader: Any = None if spec is None else spec.loader
        if loader is not None and hasattr(loader, "exec_module"):
            execute = loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                _boundary.survive(self._act, module)

            loader.exec_module = exec_module
        return spec
