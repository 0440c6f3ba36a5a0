"""`make bench`: Seedbed beside what people use instead, in one run: training, whole sweeps, tracking, start-up, memory.

`tasks` says what everyone trains; `contenders` and `peers` train it, each in a `worker` process of its own; `training`
asks them in turn. `tracking` does the same with `trackers`, which keep trained runs in `places`. `sweeps`, `commands`
and `large` time whole commands. `verdict` holds the goals, `show` and `plot` draw.
"""
