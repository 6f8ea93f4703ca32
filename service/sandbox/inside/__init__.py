"""Program inside the two sandboxes of `service.sandbox`: the candidate process and the test process.

It runs from source text and imports nothing from secondpass. Tests never share a process with the code under test: they
call it through a socket that carries only plain data. Code that exits, patches `assert`, `math` or `builtins`, or returns
an object that compares equal to everything therefore cannot make a test pass.
"""
