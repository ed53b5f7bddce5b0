"""Roles told by the words of a name."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchstep.core.adversaries import is_adversarial, is_discriminator
from watchstep.core.roles import FAMILIES, ROLES, role_of

# What 18 projects log that are not in the table of trainers. Labelled by hand before the rules
# were tried on them: the figure for names that nobody listed.
OTHER_PROJECTS = Path(__file__).with_name("other_projects.csv")


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("my_net/critic2/td_error_loss", "loss"),
        ("agent_0/policy_loss", "signed_loss"),
        ("agent_3/policy/loss", "signed_loss"),
        ("Loss/Actor", "signed_loss"),
        ("Loss/Critic_1", "loss"),
        ("best_val_loss", "unknown"),
        ("min_top5_err", "unknown"),
        ("val/max_bleu", "unknown"),
        ("loss/min", "loss"),
        ("max_loss", "loss"),
        ("val/best_acc", "unknown"),
        ("val/iou", "eval_score"),
        ("val/mIoU", "eval_score"),
        ("metrics/mAP@0.5", "eval_score"),
        ("GradNorm/encoder", "grad_norm"),
        ("grad_norm/blocks.3.attn.weight", "grad_norm"),
        ("loss_scaling", "scale"),
        ("l_g_pix", "loss"),
        ("l_d_real", "loss"),
        ("l_arm_pos", "unknown"),
        ("train_loss_epoch", "loss"),
        ("train_loss_step", "loss"),
        ("valloss", "eval_loss"),
        ("TrainLoss", "loss"),
        ("trainLoss", "loss"),
        ("discriminator_loss", "loss"),
        ("netG/loss_fm", "loss"),
        ("kl_coef", "weight"),
        ("adaptive_kl/beta", "weight"),
        ("log_alpha", "weight"),
        ("temperature_loss", "signed_loss"),
        ("ent_coef_loss", "signed_loss"),
        ("q1_values", "value"),
        ("Q/mean", "value"),
        ("mean_q", "value"),
        ("values/mean", "value"),
        ("vtrace/targets_mean", "value"),
        ("actor_grad_norm", "grad_norm"),
        ("gradient.l2", "grad_norm"),
        ("global_gradient_norm", "grad_norm"),
        ("max_grad_norm_before_clip", "grad_norm"),
        ("grad_clip_fraction", "share"),
        ("mean_episode_return", "reward"),
        ("avg_return_100ep", "reward"),
        ("EpisodeReward", "reward"),
        ("team_red/score", "reward"),
        ("reward_model/score_mean", "reward"),
        ("reward_model/score_std", "spread"),
        ("intrinsic_reward_mean", "value"),
        ("samples_per_sec", "throughput"),
        ("tok/s", "throughput"),
        ("imgs_per_second", "throughput"),
        ("it/s", "throughput"),
        ("steps_per_s", "throughput"),
        ("s/it", "time"),
        ("ms_per_step", "time"),
        ("seconds_per_epoch", "time"),
        ("step_time_ms", "time"),
        ("eval_rougeL", "eval_score"),
        ("test_bleu4", "eval_score"),
        ("dev/f1_macro", "eval_score"),
        ("val_accuracy_top5", "eval_score"),
        ("validation/AUROC", "eval_score"),
        ("eval/win_rate", "eval_score"),
        ("train/accuracy", "share"),
        ("train_acc", "share"),
        ("perplexity", "loss"),
        ("val_ppl", "eval_loss"),
        ("eval/wer", "eval_loss"),
        ("FID", "eval_loss"),
        ("bits_per_dim", "loss"),
        ("loss_scale", "scale"),
        ("amp/scale", "scale"),
        ("grad_scaler/scale", "scale"),
        ("learning_rate", "rate"),
        ("optimizer/lr_group_1", "rate"),
        ("actor_learning_rate", "rate"),
        ("lr-AdamW/pg1", "rate"),
        ("policy/std", "spread"),
        ("action_log_std_mean", "spread"),
        ("advantage_std", "spread"),
        ("reward_std", "spread"),
        ("policy_entropy", "entropy"),
        ("entropy/discrete", "entropy"),
        ("ppo/kl_div", "kl"),
        ("kl_to_reference", "kl"),
        ("mean_kl", "kl"),
        ("kl_loss", "loss"),
        ("vae/kl_loss", "loss"),
        ("actor/kl_loss", "kl"),
        ("target_kl", "weight"),
        ("target_entropy", "weight"),
        ("entropy_coefficient", "weight"),
        ("value_loss_coef", "weight"),
        ("dropout_rate", "share"),
        ("clip_fraction", "share"),
        ("frac_zero_std", "share"),
        ("masked_token_ratio", "share"),
        ("explained_variance", "share"),
        ("exploration/epsilon", "share"),
        ("invalid_action_rate", "share"),
        ("importance_ratio", "unknown"),
        ("num_tokens", "count"),
        ("replay_buffer_size", "count"),
        ("total_env_steps", "count"),
        ("episode/mean_length", "count"),
        ("global_step", "count"),
        ("time/elapsed", "time"),
        ("wall_clock_time", "time"),
        ("mlm_loss", "loss"),
        ("contrastive/InfoNCE_loss", "loss"),
        ("recon_loss", "loss"),
        ("mse", "loss"),
        ("l1_loss", "loss"),
        ("SmoothL1Loss", "loss"),
        ("CrossEntropyLoss", "loss"),
        ("nll", "loss"),
        ("elbo", "signed_loss"),
        ("aux/load_balance_loss", "loss"),
        ("box_loss", "loss"),
        ("loss_giou", "loss"),
        ("val/loss_giou", "eval_loss"),
        ("valid_nll", "eval_loss"),
        ("eval_mse", "eval_loss"),
        ("surrogate_loss", "signed_loss"),
        ("pg_loss", "signed_loss"),
        ("ppo_policy_loss", "signed_loss"),
        ("loss/pi", "signed_loss"),
        ("LossPi", "signed_loss"),
        ("LossQ", "loss"),
        ("gpu/temperature", "unknown"),
        ("system_1/reward", "reward"),
        ("policy_3/value_loss", "loss"),
        ("Policy/Loss", "signed_loss"),
        ("loss_lr", "rate"),
        ("system/gpu.0.memory", "unknown"),
        ("param_norm", "unknown"),
        ("weights/fc1.weight", "unknown"),
        ("foo", "unknown"),
        ("my/objective", "signed_loss"),
        ("momentum", "unknown"),
        ("Time-cost", "time"),
        ("avg_reader_cost", "time"),
        ("avg_batch_cost", "time"),
    ],
)
def test_a_name_that_nobody_listed_gets_the_role_its_words_say(name: str, role: str) -> None:
    assert role_of(name) == role


def test_names_of_projects_that_nobody_looked_at_get_the_right_role() -> None:
    with OTHER_PROJECTS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    wrong = [row for row in rows if role_of(row["name"], row["family"]) != row["role"]]

    assert len(rows) > 300
    # At the first trial, before the rules were mended, 301 of 323 were right: 93 of 100.
    assert len(wrong) <= 0.07 * len(rows), wrong


@pytest.mark.parametrize(
    ("family", "role"),
    [
        ("on_policy", "signed_loss"),
        ("grpo", "signed_loss"),
        ("off_policy", "loss"),
        ("preference", "loss"),
        ("supervised", "loss"),
        ("", "loss"),
        ("a family of tomorrow", "loss"),
    ],
)
@pytest.mark.parametrize("name", ["loss", "train/loss", "total_loss", "train_loss_epoch"])
def test_a_plain_loss_is_signed_where_it_holds_a_policy_s_term(
    name: str, family: str, role: str
) -> None:
    assert role_of(name, family) == role


@pytest.mark.parametrize(
    "name", ["value_loss", "learners/p0/vf_loss", "q_loss", "aux_loss", "nll", "train/ce_loss"]
)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_loss_of_something_else_is_no_family_s_signed_loss(name: str, family: str) -> None:
    assert role_of(name, family) == "loss"


def test_a_kl_loss_is_a_term_of_an_autoencoder_or_a_distance_to_a_policy() -> None:
    assert role_of("kl_loss", "supervised") == "loss"
    assert role_of("kl_loss", "on_policy") == "kl"
    assert role_of("val/kl_loss", "supervised") == "eval_loss"


def test_rewards_that_a_preference_model_gives_itself_are_estimates() -> None:
    assert role_of("rewards/chosen", "preference") == "value"
    assert role_of("rewards/rejected", "preference") == "value"
    assert role_of("rewards/margins", "preference") == "reward"


@pytest.mark.parametrize("name", ["g_loss", "train/d_loss", "Loss/discriminator", "generator_loss"])
def test_losses_that_work_against_each_other_are_known(name: str) -> None:
    assert role_of(name) == "loss"
    assert is_adversarial(name)


@pytest.mark.parametrize("name", ["train/loss", "critic_loss", "actor_loss", "gen_len", ""])
def test_an_actor_and_a_critic_are_no_adversaries(name: str) -> None:
    assert not is_adversarial(name)


@given(st.text(), st.sampled_from(["", *sorted(FAMILIES)]))
def test_any_text_has_a_role(name: str, family: str) -> None:
    assert role_of(name, family) in ROLES
    assert is_adversarial(name) in {True, False}


@given(st.text(alphabet="lossgradrewknrm_/:.-0123456789ABC", max_size=200))
def test_any_name_has_one_role_however_often_it_is_asked(name: str) -> None:
    first = role_of(name)
    role_of.cache_clear()

    assert role_of(name) == first


@pytest.mark.parametrize("part", ["loss", "grad_", "ep", "rew/", "aB", "per_"])
def test_a_name_of_a_hundred_thousand_letters_is_read(part: str) -> None:
    assert role_of(part * 30_000) in ROLES


def test_what_counts_lost_numbers_is_no_reward() -> None:
    assert role_of("rewards/nonfinite") == "count"


def test_a_discriminator_is_told_from_its_generator() -> None:
    discriminators = ["loss_d", "Loss_D", "errD", "D/loss", "d_loss_real", "train/disc_loss"]
    others = ["loss_g", "errG", "generator_loss", "critic_loss", "loss_dice", "depth_loss", "D(x)"]
    discriminators += ["d_real_loss", "d1_loss", "D_fake", "d_g_z__", "fake_score"]
    others += ["d0.loss_cls", "g_fake_acc", "real_score", "g_l1_loss"]

    assert [name for name in discriminators + others if is_discriminator(name)] == discriminators
