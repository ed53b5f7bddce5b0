"""Rule files read strictly: every mistake with its line, and nothing hangs or crashes."""

import contextlib
import json
import random
import time
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchstep.core.families import family_of
from watchstep.core.roles import role_of
from watchstep.core.updates import Action
from watchstep.errors import RuleError
from watchstep.rules import combine, load, packs, read_source, read_text
from watchstep.rules.check import check
from watchstep.rules.examining import examine
from watchstep.rules.files import VOCABULARY, shipped_rules
from watchstep.rules.strict_yaml import Mapped, read

PACKS = resources.files("watchstep.rules") / "packs"
PACK = (PACKS / "ppo.yaml").read_bytes()


def rule_file(*lines: str) -> bytes:
    head = ["groups:", "  - name: g", "    rules:", "      - alert: R"]
    return "\n".join([*head, *(f"        {line}" for line in lines)]).encode()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (rule_file("expr: a > 1", "expr: a > 2"), 6, "key 'expr' stands here twice"),
        (rule_file("expr: metric > 1", "each: los"), 6, "no role 'los'; did you mean 'loss'?"),
        (rule_file("expr: metric > 1", "each: [loss, 3]"), 6, "each: expected names, found 3"),
        (rule_file("expr: metric > 1", "each: []"), 6, "expected a role, or a list of roles"),
        (rule_file("expr: a > 1", "each: loss"), 6, "expr must look at `metric`"),
        (rule_file("expr: stalled()", "each: loss"), 6, "expr must look at `metric`"),
        (rule_file("expr: level(a, 30s) > 1"), 5, "a level is over reports"),
        (rule_file("expr: growth(a, 5, -1) > 1"), 5, "the floor of `growth` must be 0 or more"),
        (b"groups: []\nroles:\n  my/loss: los\n", 3, "no role 'los'; did you mean 'loss'?"),
        (b"groups: []\nfamily: rl\n", 2, "'rl' is none of"),
        (rule_file("expr: a > 1", "anotations: {}"), 6, "did you mean 'annotations'?"),
        (rule_file("expr: a > 1", "for: 3"), 6, "'3' is no length of time"),
        (rule_file("expr: a > 1", "for: " + "9" * 5000 + " updates"), 6, "at most"),
        (rule_file("expr: a >"), 5, "found the end at column 4"),
        (rule_file("for: 3 updates"), 4, "a rule needs an expression"),
        (rule_file("expr: a > 1", "action: explode"), 6, "is none of none, pin, skip"),
        (rule_file("expr: a > 1", "labels: {severity: fatal}"), 6, "is none of info, warning"),
        (rule_file("expr: a > 1", "warmup: -1"), 6, "expected a whole number from 0"),
        (rule_file("expr: a > 1", "warmup: true"), 6, "expected a whole number"),
        (rule_file("expr: stalled() and a > 1"), 5, "can look at nothing else"),
        (rule_file("expr: a > 1", "where: [x]"), 6, "expected a mapping, found a list"),
        (rule_file("expr: [a > 1]"), 5, "expected a text, found a list"),
        (b"groups:\n  - rules:\n      - alert: 'no name'\n        expr: a > 1", 3, "needs a name"),
        (b"groups: 3", 1, "expected a list, found 3"),
        (b"grups: []", 1, "did you mean 'groups'?"),
        (b"- a", 1, "expected a mapping at the top"),
        (b"", 1, "found nothing"),
        (b"groups:\n\n  - name: \xff", 3, "not UTF-8 at byte 19"),
        (b"a: &x 1\nb: *x", 1, "aliases are not supported"),
        (b"a: 1\nb: !!python/object:os.system 1", 2, "is not supported"),
        (b"a: {<<: {b: 1}}", 1, "not supported"),
        (b"a: 1\nb: [1, 2", 2, "not YAML"),
        (b"a: 1\nb: \x07", 2, "is not allowed"),
        (b"[" * 5000, 1, "nested"),
        (b"a:\n" + b"".join(b" " * n + b"- \n" for n in range(1, 40)), 0, ""),
        (b"a" * 10 * 2**20, 1, "more than 262144 bytes"),
        (b"zones:\n  - {metric: x, edges: [2, 1], names: [ok, ok, ok]}", 2, "must ascend"),
        (b"zones:\n  - {metric: x, edges: [.nan], names: [ok, ok]}", 2, "must ascend"),
        (b"zones:\n  - {metric: x, edges: [1], names: [ok]}", 2, "1 edges need 2 names"),
        (b"zones:\n  - {metric: x, edges: [1], names: [ok, bad]}", 2, "is none of ok"),
        (
            b"zones:\n  - {metric: x, edges: [1], names: [ok, ok], fallback: [1]}",
            2,
            "expected a number",
        ),
        (b"zones:\n  - {metric: x}", 2, "needs no zones|0 edges need 1 names"),
        (b"aliases:\n  - {metric: x, names: [y], factor: two}", 2, "expected a number"),
        (b"aliases:\n  - {names: [y]}", 2, "expected the name of a metric"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: bytes, line: int, says: str) -> None:
    with pytest.raises(RuleError) as caught:
        read_text(text, "f.yaml")

    assert any(part in caught.value.reason for part in says.split("|"))
    if says:
        assert caught.value.line == line
        assert str(caught.value).startswith(f"f.yaml:{line}: ")


def test_all_mistakes_of_a_file_are_found_not_only_the_first() -> None:
    text = b"""groups:
  - name: g
    rules:
      - {alert: A, expr: a >}
      - {alert: B, expr: a > 1}
      - {alert: B, expr: a > 1}
      - {alert: C, expr: media(a, 3) > 1}
extra: 1
"""

    file, mistakes = examine(text, "f")

    # The comma in braces makes a key of what follows it, too.
    assert [error.line for error in mistakes] == [4, 6, 7, 7, 8]
    assert [rule.name for rule in file.rules] == ["B", "B"]


def test_numbers_and_words_are_yaml_1_2() -> None:
    root = read(b"a: 1e-4\nb: 0o17\nc: 017\nd: yes\ne: 1_000\nf: .5\ng: 12:30\nh: true", "f")

    assert root.values == {
        "a": 1e-4, "b": 15, "c": 17, "d": "yes", "e": 1000, "f": 0.5, "g": "12:30", "h": True,
    }  # fmt: skip


def test_an_older_yaml_directive_does_not_turn_yes_into_false() -> None:
    assert read(b"%YAML 1.1\n---\na: yes", "f").values["a"] in {"yes", True}


@pytest.mark.parametrize("text", [b"a: 0x", b"a: +_", b"a: 1__", b"a: -._", b"a: 0o9", b"a: 08"])
def test_what_only_looks_like_a_number_is_read_without_a_crash(text: bytes) -> None:
    with contextlib.suppress(RuleError):
        assert "a" in read(text, "f").values


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(text: bytes) -> None:
    with contextlib.suppress(RuleError):
        read_text(text, "f")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!|>'\"%#?,\n \t@`1.e~<=\\\ufeff\x85", max_size=40))
def test_no_text_of_yamls_own_signs_crashes_the_reader(text: str) -> None:
    with contextlib.suppress(RuleError):
        read_text(text.encode(), "f")


def test_damaged_packs_are_refused_or_read_but_never_crash() -> None:
    chance = random.Random(7)
    head = PACK[:1500]
    for _ in range(60):
        damaged = bytearray(head)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with contextlib.suppress(RuleError):
            read_text(bytes(damaged), "f")


@pytest.mark.parametrize(
    "hostile",
    [
        b"a: " + b"[" * 100_000,
        b"a: " + b"{a: " * 50_000,
        b"- " * 100_000,
        b"? " * 100_000,
        b"&a " * 50_000,
        b"a: |\n" + b" x\n" * 60_000,
        b'"' + b"\\x41" * 60_000 + b'"',
        b"a: &a [x]\n" + b"".join(b"b%d: [*a, *a]\n" % n for n in range(5000)),
        b"%TAG ! !\n" * 5000,
        b"#" * 260_000,
        b"a: b\n" * 50_000,
        b"".join(b"k%d: v\n" % n for n in range(25_000)),
    ],
)
def test_no_quarter_mebibyte_of_anything_takes_longer_than_seconds(hostile: bytes) -> None:
    began = time.process_time()

    with contextlib.suppress(RuleError):
        read_text(hostile, "f")

    assert time.process_time() - began < 20.0


def test_a_rule_of_a_later_source_replaces_one_of_the_same_name(tmp_path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_bytes(b"groups:\n  - rules:\n      - {alert: KLHigh, expr: train/approx_kl > 9}")

    rules = load(["ppo", mine])

    chosen = rules.rules[rules.index["KLHigh"]]
    assert (chosen.expr, chosen.source) == ("train/approx_kl > 9", str(mine))


def test_a_source_that_is_neither_pack_nor_file_is_refused_with_the_packs(tmp_path) -> None:
    with pytest.raises(RuleError, match="packs: generic, grpo, machine, ppo, ppo-seed, pretrain"):
        load(["pppo"])
    with pytest.raises(RuleError, match="no such file"):
        load([tmp_path])


def test_a_rule_that_asks_about_an_unknown_one_is_refused_one_inhibited_by_a_pack_is_not() -> None:
    file = read_text(rule_file("expr: fired(Nobody, 3)"), "f")

    with pytest.raises(RuleError, match="names the rule 'Nobody'"):
        combine([file])
    assert "StepSkipped" in load(["generic"]).index


@pytest.mark.parametrize("pack", packs())
def test_every_pack_loads_alone_and_tells_the_reason_for_each_rule(pack: str) -> None:
    rules = load([pack])

    assert all(rule.annotations.get("summary") for rule in rules.rules)
    for rule in rules.rules:
        if rule.action >= Action.HALT:
            assert rule.severity == "critical"


def test_checking_all_packs_together_finds_nothing() -> None:
    assert check(packs()).mistakes == ()


@pytest.mark.parametrize("name", [*packs(), VOCABULARY])
def test_a_pack_read_from_the_json_of_a_wheel_says_what_its_yaml_says(name: str) -> None:
    text = (PACKS / f"{name}.yaml").read_bytes()
    plain = json.loads(json.dumps(read(text, name).plain()))

    from_json = examine(text, name, Mapped.of(plain, name))

    assert repr(from_json) == repr(examine(text, name))
    assert from_json[1] == []


def test_the_packs_name_no_rule_that_no_pack_has() -> None:
    inhibitors = {
        name for pack in packs() for r in read_source(pack).rules for name in r.inhibited_by
    }

    assert inhibitors <= shipped_rules()


def test_a_file_says_the_roles_of_metrics_and_old_names_of_rules(tmp_path) -> None:
    (tmp_path / "own.yaml").write_text(
        "roles: {my/objective: loss, train/loss: signed_loss}\n"
        "groups:\n  - name: g\n    rules:\n"
        "      - {alert: New, formerly: [Old], each: [loss], expr: metric > 5}\n"
        "      - {alert: After, expr: 'fired(Old, 2)'}\n"
    )

    rules = load([tmp_path / "own.yaml"], roles={"theirs": "loss"})

    assert [rules.role(name) for name in ("my/objective", "theirs")] == ["loss", "loss"]
    # An alias has the role of what it stands for.
    assert rules.role("train_loss") == "signed_loss"
    assert check([str(tmp_path / "own.yaml")]).mistakes == ()


def test_the_family_of_a_file_says_what_a_plain_loss_is() -> None:
    supervised = combine([read_text(b"groups: []\nfamily: supervised\n", "s")])
    grpo = combine([read_text(b"groups: []\nfamily: grpo\n", "g")])

    assert (supervised.role("loss"), grpo.role("loss")) == ("loss", "signed_loss")
    assert supervised.fingerprint != grpo.fingerprint


def test_names_without_brackets_are_metrics_also_where_a_function_is_called_so() -> None:
    file = read_text(rule_file("expr: level > 1 and reports > 2 and first < 3"), "t")

    assert file.rules[0].expr == "level > 1 and reports > 2 and first < 3"


def test_an_objective_alone_is_no_policys() -> None:
    names = ["average_objective_function_output", "average_objective_function_output-xent"]

    assert family_of(names, role_of) == "supervised"
    names = ["objective", "value_loss", "explained_variance", "clip_fraction"]
    assert family_of(names, role_of) == "on_policy"
