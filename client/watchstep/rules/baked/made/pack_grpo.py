"""Made by `make packs`; not to be edited."""

# mypy: ignore-errors

from math import nan

from watchstep.core.rules import Alias, Bands, Rule
from watchstep.core.spans import Span
from watchstep.core.updates import Action

TEXT = 2511645781
RULES = (
    Rule(name='GroupsWithoutSignal', expr='train/zero_std_share > 0.9', group='signal', hold=Span(updates=10), keep=Span(updates=5), annotations={'summary': 'In nine groups of ten every completion earns the same reward, so they teach nothing.', 'cause': 'The task is solved, or hopeless, or the reward function returns a constant.', 'reason': 'The advantage of such a group is 0 for every completion by definition.'}, source='grpo', line=12),
    Rule(name='GroupStdVanished', expr='train/reward_std < 1e-4', group='signal', hold=Span(updates=5), keep=Span(updates=5), annotations={'summary': 'The rewards within groups hardly differ; what is left is divided by the epsilon.', 'reason': 'TRL adds 1e-4 to the deviation, verl 1e-6, OpenRLHF 1e-9 - with the last two rounding noise is blown up to unit scale.'}, source='grpo', line=21),
    Rule(name='AdvantagesBeyondGroupBound', expr='greatest(abs(grpo/advantages_max), abs(grpo/advantages_min)) > 1.01 * bound(train/group_size)', group='signal', severity='critical', action=Action.HALT, keep=Span(updates=20), annotations={'summary': 'An advantage is larger than its own group allows - the statistics came from elsewhere.', 'cause': "Leave-one-out deviation, another worker's group, masked completions counted in one sum and not in the other.", 'reason': "Samuelson's inequality over the group. Holds where advantages are divided by the group's deviation; report train/group_size only then.", 'source': 'NeMo-RL issue 1518 - leave-one-out, advantages of a million.'}, source='grpo', line=29),
    Rule(name='RewardStuck', expr='flat(rollout/ep_rew_mean, 50)', group='signal', keep=Span(updates=5), annotations={'summary': 'The mean reward has had exactly the same value for 50 updates.', 'cause': 'The reward function fails and returns its default, or every completion is cut off before the answer.'}, source='grpo', line=39),
    Rule(name='ReferenceKLRecord', expr='record(train/reference_kl, 10) > 10 and abs(train/reference_kl) > 1', group='policy', severity='critical', action=Action.PIN, keep=Span(updates=20), annotations={'summary': 'The divergence from the reference model is ten times what it ever was.', 'cause': 'The policy has broken away - reward hacking, or a step that was too large.', 'reason': "Above 1 nat a token only; the estimator's own noise is far below that."}, source='grpo', line=48),
    Rule(name='PolicyKLHigh', expr='train/approx_kl > 0.3', group='policy', keep=Span(updates=5), annotations={'summary': 'Trainer and sampler differ by more than 0.3 nats a token.', 'cause': 'Learning rate too high, too many passes over a batch, or an inference engine that computes other probabilities.'}, source='grpo', line=57),
    Rule(name='ClipRatioHigh', expr='train/clip_fraction > 0.5', group='policy', hold=Span(updates=3), annotations={'summary': 'More than half of the tokens are clipped.', 'reason': 'Healthy token-level ratios are clipped in a few of a thousand tokens; from half on most of the gradient is gone.'}, source='grpo', line=64),
    Rule(name='EntropyCollapse', expr='abs(train/entropy_loss) < 0.1 * max(abs(train/entropy_loss), 200) and abs(train/entropy_loss) < 0.05', group='policy', severity='info', hold=Span(updates=10), annotations={'summary': 'The entropy has fallen to a tenth of what it was and below 0.05 nats a token.', 'reason': 'Falling entropy is usual; below 0.05 nats sampled completions are nearly identical, and groups lose their signal.'}, source='grpo', line=71),
    Rule(name='EntropyRunaway', expr='spike(train/entropy_loss, 50) > 3 and abs(train/entropy_loss) > 2', group='policy', hold=Span(updates=3), keep=Span(updates=10), annotations={'summary': 'The entropy has tripled to above 2 nats a token; completions become noise.', 'reason': 'Text of language models has about one nat a token and less after fine-tuning.'}, source='grpo', line=78),
    Rule(name='GradientSpike', expr='spike(train/grad_norm, 50) > 10 and train/grad_norm < inf', group='policy', keep=Span(updates=20), annotations={'summary': 'The gradient norm is ten times its recent median.'}, source='grpo', line=86),
    Rule(name='CompletionsTruncated', expr='grpo/truncated_share > 0.5', group='length', severity='info', hold=Span(updates=5), annotations={'summary': 'More than half of the completions are cut off at the length limit.', 'cause': 'The limit is too small, or the policy has learnt to ramble.', 'reason': 'A completion that is cut off cannot be rewarded for its answer. A note, since runs learn all the same where the answer comes early.'}, source='grpo', line=93),
    Rule(name='LengthCollapse', expr='drop(grpo/length_mean, 50) > 5', group='length', hold=Span(updates=3), keep=Span(updates=10), annotations={'summary': 'Completions are a fifth as long as they were.', 'cause': 'The policy has found a short answer that is always paid.'}, source='grpo', line=101),
)
BANDS = (
)
ALIASES = (
    Alias(name='completions/clipped_ratio', metric='grpo/truncated_share'),
    Alias(name='response_length/clip_ratio', metric='grpo/truncated_share'),
    Alias(name='completions/mean_length', metric='grpo/length_mean'),
    Alias(name='response_length/mean', metric='grpo/length_mean'),
    Alias(name='response_length', metric='grpo/length_mean'),
    Alias(name='completion_length', metric='grpo/length_mean'),
    Alias(name='critic/advantages/max', metric='grpo/advantages_max'),
    Alias(name='advantages/max', metric='grpo/advantages_max'),
    Alias(name='critic/advantages/min', metric='grpo/advantages_min'),
    Alias(name='advantages/min', metric='grpo/advantages_min'),
)
