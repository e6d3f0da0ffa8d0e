"""Tickets as C: sources that need a C compiler and nothing else, for devices without Python."""

from .program import SOURCE, check_name, compile_program, find_compiler, run_program, write_program

__all__ = ["SOURCE", "check_name", "compile_program", "find_compiler", "run_program", "write_program"]
