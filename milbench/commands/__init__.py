"""Commands: the words that a user types -> one function call -> what is printed.

In: `sys.argv`. Out: an exit code, and text. Nothing is computed here; heavy imports stay inside the functions, so that
`milbench --help` is quick. Open `cli.py` first: it lists the commands, and each one names the function that does the work.
"""
