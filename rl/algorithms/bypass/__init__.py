"""What goes past RLlib for speed, and how to do without: `training(plain=True)`, or `RAYCOMMEND_PLAIN=1` for a process.

Measured with Ray 2.60 and torch 2.13 on a busy core: the shop, 64 environments, the default network, an update of 128
transitions for 16 environment steps, prioritised replay. An update takes 23 ms there; see `tests.bench.dqn_loop` for
whole loops.

===================  =============================================  ===========================  ==============
here                 past RLlib's                                   the plain way                gain an update
===================  =============================================  ===========================  ==============
`rollout`            `SingleAgentEnvRunner`, its connectors, and    `plain.PlainEnvRunner`       5 ms, 20 %
                     episodes of Python objects
`replay`             `PrioritizedEpisodeReplayBuffer`               `plain.PlainReplay`          30 ms, 130 %
`update`             the loop of `Learner.update`                   it, by the same hooks        6 ms, 25 %
`flat`               an optimiser over single parameters            it                           1 ms, 4 %
`share_module`       `EnvRunnerGroup.sync_weights`, where runner    it, after every round        1.2 ms, 5 %
                     and learner are in one process
===================  =============================================  ===========================  ==============

`flat` gains little, but a network that is trained without it differs in its rounding from those of the kept results.

What has no plain way: `BanditLearner.update` adds observations, where RLlib's takes a gradient; `BanditModule` keeps
float64 through `get_state`, which RLlib's rounds to float32; a table of transitions is no `OfflineData`, see
`rl.algorithms.offline.algorithm.TransitionsData`. RLlib's replay draws no transition within `n_step` steps of an
episode's end, so that with `plain` only `n_step = 1` is trained.
"""
