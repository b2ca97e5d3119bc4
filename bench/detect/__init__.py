"""Does the canary judge keep its promise, and is it first? Thousands of simulated rollouts a second, and exact bounds.

`traffic` and `durations` and `noise` draw what two arms of a service would have counted; `ours` computes what Flyball's
judge concludes from it, for many rollouts at once; `argo`, `flagger` and `kayenta` what their rules conclude; `bound`
what the best possible test could. `cells` runs the tables, `table` prints them with what they show and do not show.

Everything is simulated. Nothing here is a figure of real traffic.
"""
