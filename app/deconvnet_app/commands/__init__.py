"""The commands of `deconvnet`, one module each.

Their modules import the engine inside the functions: torch takes seconds to import, and
`deconvnet --help` shall not.
"""
