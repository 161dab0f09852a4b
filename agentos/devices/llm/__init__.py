"""devices.llm: doors to language models. openai is imported here only, and only when a profile needs it.

Owns: profiles (what the host calls a model, where it is, what it costs and what it may be told), drivers, the token counter.
Must never: retry, choose what is in a prompt, or put a key where a process, a row or an error could show it.
"""
