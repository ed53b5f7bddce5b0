"""Made by `make packs`; not to be edited."""

# mypy: ignore-errors

from math import nan

from watchstep.core.rules import Alias, Bands, Rule
from watchstep.core.spans import Span
from watchstep.core.updates import Action

TEXT = 2257877090
RULES = (
    Rule(name='SeedAdvantagesExtreme', expr='train/advantages_norm_max_abs > 100', group='seed-alerts', severity='critical', annotations={'summary': 'Normalized advantages extreme.', 'false_alarms': '0 of 39 and 0 of 23.', 'claim': "Cannot happen to values standardised with their own batch's statistics below 10,002 of them; 385.2 needs 148,382. A correct run with more can exceed 100."}, source='ppo-seed', line=8),
    Rule(name='SeedLowAdvantageStd', expr='train/advantages_std_raw < 1e-4', group='seed-alerts', annotations={'summary': 'Low advantage variance, watch closely.', 'false_alarms': '11 of 39; public logs do not report it.', 'claim': 'Harmless in 157 healthy updates inside the window, where the largest standardised value was 7.2.'}, source='ppo-seed', line=15),
    Rule(name='SeedGradientExplosion', expr='train/grad_norm > 1000', group='seed-alerts', severity='critical', annotations={'summary': 'Gradient explosion.', 'false_alarms': 'Not measured. Stable-Baselines3 logs no gradient norm, so without the hook this rule is blind. 1 firings in 24 healthy runs of 13,126 updates.'}, source='ppo-seed', line=22),
    Rule(name='SeedValueFunctionDiverged', expr='train/explained_variance < -0.5', group='seed-alerts', severity='critical', annotations={'summary': 'Value function diverged.', 'false_alarms': '18 of 39 and 11 of 23. A critic that has not learnt yet is negative for many updates.'}, source='ppo-seed', line=28),
    Rule(name='SeedLossExplosion', expr='train/policy_loss > 10 or train/value_loss > 10', group='seed-explosions', severity='critical', annotations={'summary': 'A loss is above 10.', 'false_alarms': "27 of 39 and 14 of 23, all of them by the value loss, whose scale is the reward's squared."}, source='ppo-seed', line=36),
    Rule(name='SeedPolicyLossHuge', expr='abs(train/policy_loss) > 10', group='seed-explosions', severity='critical', annotations={'summary': 'The policy loss is in the hundreds or thousands, as in "-500 to 50000".', 'false_alarms': '0 of 39.', 'claim': "The report's -47.3 is impossible for correct code, whose loss is never below minus the clip range."}, source='ppo-seed', line=42),
    Rule(name='SeedPotentialBugTriggered', expr='train/advantages_std_raw < 1e-4 and train/advantages_norm_max_abs > 100', group='seed-explosions', severity='critical', action=Action.HALT, annotations={'summary': 'Potential bug triggered - raw deviation in the window and normalised values beyond 100.', 'false_alarms': '0 of 39.'}, source='ppo-seed', line=49),
    Rule(name='SeedSimultaneousExplosion', expr='abs(train/policy_loss) > 100 * abs(previous(train/policy_loss)) and abs(train/value_loss) > 100 * abs(previous(train/value_loss)) and (train/grad_norm > 100 * previous(train/grad_norm) or not present(train/grad_norm))', group='seed-explosions', severity='critical', annotations={'summary': 'Several losses grew more than a hundredfold in the same update.', 'false_alarms': '28 firings in 24 healthy runs of 13,126 updates.', 'claim': 'The value loss does not follow - returns are computed before normalisation. It stayed between 30 and 53 while the largest advantage was 1.8e9.'}, source='ppo-seed', line=56),
    Rule(name='SeedSpike100x', expr='train/advantages_norm_max_abs > 100 * previous(train/advantages_norm_max_abs)', group='seed-explosions', severity='critical', annotations={'summary': 'The largest normalised advantage jumped a hundredfold.', 'false_alarms': '21 firings in 24 healthy runs of 13,126 updates.'}, source='ppo-seed', line=63),
    Rule(name='SeedClipFraction', expr='train/clip_fraction > 0.9', group='seed-explosions', severity='critical', annotations={'summary': 'Nearly every action is clipped.', 'false_alarms': '0 of 39 and 0 of 23.', 'claim': 'Reads 0.0 when every ratio is NaN, so it says nothing about a run that has died.'}, source='ppo-seed', line=69),
    Rule(name='SeedNegativeExplainedVariance', expr='train/explained_variance < 0', group='seed-explosions', annotations={'summary': 'The value function is worse than predicting the mean.', 'false_alarms': 'More than the 18 of 39 and 11 of 23 of the rule at -0.5, which it contains. 212 firings in 24 healthy runs of 13,126 updates.'}, source='ppo-seed', line=76),
    Rule(name='SeedEntropyExtreme', expr='train/entropy_loss < -5', group='seed-explosions', annotations={'summary': 'The entropy loss is far below zero.', 'false_alarms': '3 firings in 24 healthy runs of 13,126 updates.', 'claim': 'The entropy loss is minus the entropy, so this is the opposite of the collapse that the report takes it for; collapse is a rise to 0.'}, source='ppo-seed', line=82),
    Rule(name='SeedAnythingNonFinite', expr='nonfinite(train/*, rollout/*)', group='seed-explosions', severity='critical', annotations={'summary': 'Some metric is NaN or infinite.', 'false_alarms': '7 of 39 and 5 of 23; explained_variance is NaN whenever returns are constant.'}, source='ppo-seed', line=89),
    Rule(name='SeedVulnerabilityWindow', expr='train/advantages_std_raw >= 1e-8 and train/advantages_std_raw <= 1e-4', group='seed-signs', annotations={'summary': 'The raw deviation is inside the vulnerability window.', 'false_alarms': '11 of 39. The window is the gap between an epsilon on the deviation and one on the variance.'}, source='ppo-seed', line=97),
    Rule(name='SeedRewardFlat', expr='flat(rollout/ep_rew_mean, 20)', group='seed-signs', annotations={'summary': 'The reward is constant: a deterministic policy, or an environment that pays nothing.', 'false_alarms': '8 firings in 24 healthy runs of 13,126 updates.'}, source='ppo-seed', line=103),
    Rule(name='SeedThroughputDrop', expr='drop(time/fps, 20) >= 2', group='seed-signs', severity='info', annotations={'summary': 'Throughput dropped to half of its median or less.', 'false_alarms': '0 firings in 24 healthy runs of 13,126 updates.'}, source='ppo-seed', line=109),
    Rule(name='SeedStdBelowEpsilon', expr='known(info/advantages_std_below_epsilon, 0) > 0 or train/advantages_std_raw < 1e-8', group='seed-fixed-run', severity='info', annotations={'summary': 'The epsilon is doing its job; expected now and then in a fixed run.', 'false_alarms': '3 firings in 24 healthy runs of 13,126 updates.'}, source='ppo-seed', line=117),
    Rule(name='SeedNormExtremeInFixedRun', expr='known(warn/advantages_norm_extreme, 0) > 0 or train/advantages_norm_max_abs >= 10', group='seed-fixed-run', annotations={'summary': 'A fixed run was promised to stay below 10.', 'false_alarms': '0 firings in 24 healthy runs of 13,126 updates.', 'claim': 'A correct run may exceed 10 from 102 values on - one trade in 2,048 steps gives 45.2 - so the promise holds for no batch of usual size.'}, source='ppo-seed', line=123),
)
BANDS = (
)
ALIASES = (
)
