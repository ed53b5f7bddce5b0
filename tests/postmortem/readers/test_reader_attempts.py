"""Rows that repeat a number: a resume, several ranks, two loggers; and failures that are no end."""

from __future__ import annotations

from pathlib import Path

import pytest

from postmortem.kit_postmortem import examined
from postmortem.readers.test_reader_kinds import updates_of
from watchstep.postmortem.sections import headline

TRACE = 'Traceback (most recent call last):\n  File "a.py", line 3, in <module>\n'
KILLED = f"{TRACE}RuntimeError: CUDA out of memory. Tried to allocate 2 GiB\n"


def rows(first: int, last: int, form: str = "step {n} | loss {loss:.4f}\n") -> str:
    return "".join(form.format(n=n, loss=3 - n / 500) for n in range(first, last + 1, 10))


@pytest.mark.parametrize(
    ("form", "end"),
    [
        ("step {n} | loss {loss:.4f}\n", KILLED),
        ("[{n}] train_loss={loss:.3f} lr=0.1\n", "Killed\n"),
        ("iter {n}: loss {loss:.2f}\n", "slurmstepd: error: *** JOB 7 CANCELLED AT 10:00 ***\n"),
    ],
)
def test_a_number_that_comes_again_after_a_failure_is_a_resume(
    form: str, end: str, tmp_path: Path
) -> None:
    path = tmp_path / "out.log"
    path.write_text(
        rows(10, 310, form) + end + rows(310, 400, form) + form.format(n=410, loss=float("nan")) * 3
    )
    examination = examined(path)

    assert examination.attempts == 2
    assert (examination.first_bad_update, examination.last_good_update) == (410, 400)


@pytest.mark.parametrize(
    "form",
    [
        "[{epoch:2}/20] batch {batch}/500  ce {loss}  top1 30.05%  lr 9.5e-05",
        "[{epoch}/20] step {batch}/500 loss {loss}",
        "2026-01-02 10:00:00 INFO [{epoch}/20] step {batch}/500 loss {loss}",
        "{epoch}/20 | batch {batch}/500 | loss {loss}",
        "{epoch}/20 {batch}/500 loss={loss}",
        "[{epoch}/20, {batch}/500] loss: {loss}",
        "[{epoch}/20 - {batch}/500] loss: {loss}",
        "[{epoch}/20][{batch}/500] loss: {loss}",
        "Epoch [{epoch}/20], Step [{batch}/500], Loss: {loss}",
        "Epoch: {epoch} [{batch}/500]\tLoss: {loss}",
        "epoch {epoch} | {batch}/500 | loss {loss}",
        "batch {batch}/500 of epoch {epoch}: loss {loss}",
        "Epoch {epoch}/20, mini-batch {batch}/500, loss={loss}",
        "epoch: {epoch:2}/20, batch_idx: {batch}/500, loss: {loss}",
    ],
)
def test_an_epoch_and_its_batch_are_told_apart_in_any_form(form: str, tmp_path: Path) -> None:
    text = "".join(
        f"{form.format(epoch=epoch, batch=batch, loss=3 / epoch)}\n"
        for epoch in range(1, 21)
        for batch in range(100, 501, 100)
    )

    updates = updates_of(tmp_path, text)

    assert [update.step for update in updates] == list(range(100, 10_001, 100))
    assert {update.attempt for update in updates} == {1}


@pytest.mark.parametrize(
    "form",
    [
        "[rank{rank}]: step={n} loss={loss}\n",
        "{rank}: 2025-01-01 10:00:00 step {n} loss {loss}\n",
        "[1,{rank}]<stdout>:step {n}: loss {loss}\n",
        "(Worker pid={rank}7) iter {n} loss {loss}\n",
        "2025-01-01 10:00:00 | INFO | run:loop:9 - [Rank {rank}] step {n} loss {loss}\n",
    ],
)
def test_ranks_that_print_one_step_are_one_update_and_the_worst_counts(
    form: str, tmp_path: Path
) -> None:
    path = tmp_path / "out.log"
    losses = {(50, 1): "nan", (60, 0): "nan", (60, 1): "nan"}
    path.write_text(
        "".join(
            form.format(rank=rank, n=n, loss=losses.get((n, rank), f"{2 - n / 99 + rank:.2f}"))
            for n in range(10, 61, 10)
            for rank in ((0, 1) if n % 20 else (1, 0))
        )
    )
    examination = examined(path)

    assert examination.updates == 6
    assert (examination.first_bad_update, examination.last_good_update) == (50, 40)


def test_a_rank_that_lags_behind_opens_no_attempt(tmp_path: Path) -> None:
    late = "[rank0]: step=9 loss=1\n[rank0]: step=10 loss=1\n[rank1]: step=9 loss=1.1\n"

    assert {update.attempt for update in updates_of(tmp_path, late)} == {1}


def test_what_two_loggers_print_of_one_step_is_one_update(tmp_path: Path) -> None:
    text = "it 5 loss=1.01477 acc=0.2462\n[10:00:00] I5: loss 1.01, acc 24.6%\n"
    (update,) = updates_of(tmp_path, text.replace("I5", "it 5"))

    assert update.readings == {"loss": 1.01477, "acc": 0.2462}


@pytest.mark.parametrize(
    "form",
    [
        "Epoch: [{epoch}][{at}/200] Time 0.4 (0.4) Loss {loss}\n",
        "Train: {epoch} [ {at}/200 ( 1%)]  Loss: {loss} (1.0)  LR: 0.1\n",
        "epoch {epoch} batch {at}/200: loss {loss}\n",
    ],
)
@pytest.mark.parametrize("between", ["", "Test: [ 0/39]  Time: 0.8 (0.8)  Loss: 9.5 (9)\n"])
def test_an_exception_that_is_caught_between_epochs_is_no_end(
    form: str, between: str, tmp_path: Path
) -> None:
    path = tmp_path / "out.log"
    caught = f"{TRACE}PIL.UnidentifiedImageError: cannot identify x.JPEG\nskipping bad sample\n"
    path.write_text(
        "".join(
            form.format(epoch=epoch, at=at, loss=2 / (epoch + at / 200 + 1))
            for epoch in range(6)
            for at in range(0, 200, 50)
        ).replace(
            form.format(epoch=3, at=0, loss=0.5),
            between + caught + form.format(epoch=3, at=0, loss=0.5),
        )
    )
    examination = examined(path)

    assert (examination.verdict, examination.attempts) == ("healthy", 1)


def test_a_failure_that_names_its_update_says_that_the_one_before_was_good(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_text(
        f"{TRACE}FloatingPointError: Loss became NaN at iteration=37!\n"
        "loss_dict = {'loss_a': nan}\n"
    )
    examination = examined(path)

    assert (examination.first_bad_update, examination.last_good_update) == (37, 36)


@pytest.mark.parametrize(
    ("first", "where"), [(1, "the beginning"), (700, "a checkpoint from before update 700")]
)
def test_a_log_that_begins_in_the_trouble_does_not_send_to_the_beginning(
    first: int, where: str, tmp_path: Path
) -> None:
    path = tmp_path / "out.log"
    path.write_text("".join(f"step {n} loss nan\n" for n in range(first, first + 4)))

    assert any(line.startswith(f"Go back to: {where}") for line in headline(examined(path)))


TRAINED = "Train | epoch {epoch} | {at}/400 | loss {loss:.3f} | lr 0.1\n"
SETTINGS = "Namespace(epochs=9, lr=0.1, dropout=0.2, loss_weight=1.0)\n"


@pytest.mark.parametrize(
    "between",
    [
        # What an epoch comes to, by the epoch's number.
        "| end of epoch {epoch} | time: 9.5s | valid loss 1.5 | valid ppl 4.48\n",
        "Train Summary | Epoch {epoch} | loss=0.5 | lr=0.1\n",
        # An evaluation counts its own batches, several times over where it has several parts.
        "Valid | epoch {epoch} | 1/3 | loss 1.5\nValid | epoch {epoch} | 2/3 | loss 1.4\n" * 3,
        "Eval: step 1/8 loss 1.5\nEval: step 8/8 loss 1.4\n" * 2,
        "Validation:  50%|##  | 2/4 [00:01<00:02, loss=1.5]\n",
        # So it does under a title, where its rows look like those of training.
        "Eval\nTrain | epoch {epoch} | 1/3 | loss 1.5\nTrain | epoch {epoch} | 3/3 | loss 1\n",
        # And another pass over the data counts epochs of its own, without a loss of training.
        "infer | epoch 0 | 0/400 | auc 0.8 | acc 0.7\n",
    ],
)
def test_what_counts_for_itself_between_the_rows_of_training_is_no_resume(
    between: str, tmp_path: Path
) -> None:
    text = SETTINGS + "".join(
        TRAINED.format(epoch=epoch, at=at, loss=3 / (epoch + at / 400))
        + (between.format(epoch=epoch) if at == 400 else "")
        for epoch in range(1, 5)
        for at in range(100, 401, 100)
    )
    path = tmp_path / "out.log"
    path.write_text(text)
    updates = updates_of(tmp_path, text)
    trained = [update.step for update in updates if "loss" in update.readings]

    assert {update.attempt for update in updates} == {1}
    assert sorted(set(trained)) == list(range(100, 1601, 100))
    assert examined(path).verdict == "healthy"


def test_rows_of_training_that_go_back_are_a_resume_whatever_stands_between(tmp_path: Path) -> None:
    text = "".join(
        TRAINED.format(epoch=epoch, at=at, loss=3 / epoch) + "Valid | epoch 1 | 1/3 | loss 1.5\n"
        for epoch in (1, 2, 3, 2, 3)
        for at in (200, 400)
    )

    assert [u.attempt for u in updates_of(tmp_path, text) if "loss" in u.readings][-4:] == [2] * 4


def test_rows_that_say_in_json_that_they_are_of_an_evaluation_are_no_resume(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    row = '{{"split": "{split}", "step": {n}, "loss": {loss:.3f}}}\n'
    path.write_text(
        "".join(
            row.format(split="train", n=10 * n, loss=3 / n)
            + row.format(split="valid", n=3, loss=1.5 + 1 / n)
            for n in range(1, 30)
        )
    )
    examination = examined(path)

    assert (examination.attempts, examination.verdict) == (1, "healthy")


def test_a_checkpoint_of_another_model_is_no_resume(tmp_path: Path) -> None:
    text = "".join(
        f"step {n} loss 2.5\nloaded checkpoint of opponent (epoch 3)\n" for n in range(9)
    )

    assert {update.attempt for update in updates_of(tmp_path, text)} == {1}


def test_a_bar_without_an_end_does_not_make_the_row_behind_it_an_evaluation(tmp_path: Path) -> None:
    bar = "Validation: |          | 0/? [00:00<?, ?it/s]"
    updates = updates_of(tmp_path, "".join(f"{bar}Epoch {n}: loss 2.5 acc 0.5\n" for n in range(4)))

    assert [(u.step, u.readings["loss"]) for u in updates] == [(n, 2.5) for n in range(4)]


EPOCH = "Train Epoch: {epoch} [{at}/6400 (10%)]\tLoss: {loss:.6f}\n"
WORDS = "=> loaded checkpoint 'ckpt/checkpoint.pth.tar' (epoch 4)\n"


def epochs(first: int, last: int, loss_at: float) -> str:
    return "".join(
        EPOCH.format(epoch=epoch, at=at, loss=loss_at / (epoch - first + at / 6400 + 1))
        for epoch in range(first, last + 1)
        for at in range(0, 6400, 640)
    )


@pytest.mark.parametrize(
    "words", [WORDS, "Resuming from checkpoint-4\n", "INFO: Continuing training from epoch 5\n"]
)
def test_words_of_a_resume_begin_an_attempt_and_a_loss_at_its_start_was_lost_there(
    words: str, tmp_path: Path
) -> None:
    path = tmp_path / "out.log"
    path.write_text(epochs(1, 4, 2.3) + words + epochs(5, 7, 2.3))
    examination = examined(path)

    assert (examination.attempts, examination.verdict) == (2, "suspicious")
    assert (examination.first_bad_update, examination.last_good_update) == (
        4 * 6400,
        4 * 6400 - 640,
    )
    assert examination.causes[0].name == "lost-at-resume"


@pytest.mark.parametrize("first", [0, 1, 50])
def test_a_count_that_goes_back_to_its_beginning_is_a_run_begun_anew(
    first: int, tmp_path: Path
) -> None:
    path = tmp_path / "out.csv"
    row = "{n},{loss:.4f}\n"
    table = "".join(
        row.format(n=first + at * max(first, 1), loss=2 / (1 + at / 5)) for at in range(40)
    )
    path.write_text(f"step,loss\n{table}step,loss\n{table}")
    examination = examined(path)

    assert (examination.attempts, examination.verdict) == (2, "healthy")


def test_a_count_that_goes_back_to_where_the_log_began_may_be_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    attempts = [
        "".join(f"step {n} | loss {top / (1 + n / 50 - 100):.4f}\n" for n in range(5000, 5400, 10))
        for top in (2, 9)
    ]
    path.write_text("".join(attempts))

    assert "LossLostAtResume" in {alert.rule for alert in examined(path).alerts}


def test_an_evaluation_after_each_epoch_of_numbered_batches_opens_no_attempt(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out.log"
    batch = "| epoch {e:3d} | {n:5d}/  210 batches | lr 20.00 | loss {loss:5.2f} | ppl 500.00\n"
    summary = "| end of epoch {e:3d} | time: 10.86s | valid loss  {loss:5.2f} | valid ppl 300.00\n"
    text = ""
    for epoch in (1, 2, 3):
        for number in range(20, 220, 20):
            text += batch.format(e=epoch, n=number, loss=7 - epoch)
        text += summary.format(e=epoch, loss=8 - epoch)
    path.write_text(text)

    examination = examined(path)

    assert (examination.attempts, examination.last_update) == (1, 620)


def test_folds_that_begin_anew_resume_nothing_and_have_lost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    rows = [f"[{n}] train_loss: {2 / (1 + n / 100):.4f}\n" for n in range(50, 1000, 50)]
    path.write_text("".join(f"fold {fold}\n" + "".join(rows) for fold in range(5)))

    examination = examined(path)

    assert (examination.attempts, examination.verdict) == (5, "healthy")
    assert "LossLostAtResume" not in {alert.rule for alert in examination.alerts}


@pytest.mark.parametrize(("norm", "lost"), [(7.0, True), (11.9, False)])
def test_weights_whose_norm_fell_between_two_attempts_were_lost(
    norm: float, lost: bool, tmp_path: Path
) -> None:
    path = tmp_path / "out.csv"
    rows = [(at, 2.0 - at / 100, 7 + at / 8) for at in range(40)]
    rows += [(at, 1.6, norm + (at - 30) / 8) for at in range(30, 60)]
    path.write_text(
        "step,loss,guard/weight_norm\n"
        + "".join(f"{at},{loss},{size}\n" for at, loss, size in rows)
    )

    examination = examined(path)

    assert ("WeightsLostAtResume" in {alert.rule for alert in examination.alerts}) is lost
    assert [cause.name for cause in examination.causes[:1]] == ["lost-at-resume"] * lost
