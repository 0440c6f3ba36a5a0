"""`make bench`: Seedbed beside what people use instead, in one run: training, whole sweeps, start-up, memory.

`tasks` says what everyone trains; `contenders` and `peers` train it, each in a `worker` process of its own; `training`
asks them in turn. `sweeps` and `commands` time whole commands. `verdict` holds the goals, `show` and `plot` draw.
"""
