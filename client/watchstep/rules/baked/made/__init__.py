"""Made by `make packs`; not to be edited."""

# mypy: ignore-errors

FILES = ('generic', 'grpo', 'ppo', 'ppo-seed', 'pretrain', 'vocabulary')
PROGRAMS = ('nothing', 'generic', 'grpo_with_generic', 'ppo_with_generic', 'ppo-seed_with_generic', 'pretrain_with_generic')
