"""react: the program that lets a language model drive a process, turn by turn.

    prompt --llm.complete--> reply --tool calls, in parallel, through the door--> results --> next turn's prompt, saved

`loop` is the protocol, `prompt` what the model is shown, `paging` what leaves it, `act` the calls of a turn, `tell` how results and
errors are put into words, `answer` the final result, `state` what a save point holds.

Owns: the turn, its prompt and its memory of what failed.
Must never: make a call but through `sys`, hold what a save point does not, or read a clock: it is a durable program like any other.
"""
