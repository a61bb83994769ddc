"""Run what was written for scikit-learn on this package, unchanged.

From a shell, with everything after the script, module or code being its own arguments::

    python -m lle_gpu.accel script.py arguments ...
    python -m lle_gpu.accel -m module arguments ...
    python -m lle_gpu.accel -c "code" arguments ...
    python -m lle_gpu.accel --explain

In a notebook, before anything is imported from ``sklearn.manifold``::

    %load_ext lle_gpu.accel

Both call :func:`lle_gpu.patch_sklearn`, which says what it does and does not reach. Otherwise a
program finds what Python itself gives it: ``sys.argv``, ``sys.path[0]``, ``__main__``, tracebacks
and exit codes.
"""

from __future__ import annotations

import argparse
import code
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from lle_gpu.patching import explain, patch_sklearn, unpatch_sklearn

__all__ = ["load_ipython_extension", "main", "unload_ipython_extension"]

USAGE = """\
python -m lle_gpu.accel [-v] script.py [arguments ...]
       python -m lle_gpu.accel [-v] -m module [arguments ...]
       python -m lle_gpu.accel [-v] -c code [arguments ...]
       python -m lle_gpu.accel [-v] [- [arguments ...]]
       python -m lle_gpu.accel --explain"""

EPILOG = """\
A folder or zip file with a __main__.py will do for a script. Without any of them, and for "-",
the program is read from standard input, or typed in.

Together with cuML's: python -m cuml.accel -m lle_gpu.accel script.py
"""


def load_ipython_extension(ipython: Any) -> None:
    """Patch scikit-learn in a notebook: ``%load_ext lle_gpu.accel``."""
    patch_sklearn()


def unload_ipython_extension(ipython: Any) -> None:
    """Take the patch back: ``%unload_ext lle_gpu.accel``."""
    unpatch_sklearn()


def main(argv: Sequence[str] | None = None) -> None:
    """Patch scikit-learn and become the program that the arguments name.

    It is meant to be the last thing a process does: ``__main__``, ``sys.argv`` and ``sys.path[0]``
    are the program's afterwards.

    Parameters
    ----------
    argv : sequence of str, default=None
        The arguments; None takes those of the process.

    Examples
    --------
    >>> from lle_gpu.accel import main
    >>> main(["--explain"])  # doctest: +ELLIPSIS
    sklearn.manifold.LocallyLinearEmbedding is lle_gpu's. What differs, ...
    """
    options, kind, words = _parse(sys.argv[1:] if argv is None else list(argv))
    if options.explain:
        print(explain())
        return
    patch_sklearn(verbose=options.verbose)
    # A module of its own, which stays: threads, exit handlers and pickles look things up in it.
    program = ModuleType("__main__")
    sys.modules["__main__"] = program
    {"-m": _run_module, "-c": _run_code, "-": _run_input, "script": _run_script}[kind](
        words, program.__dict__
    )


def _parse(argv: list[str]) -> tuple[argparse.Namespace, str, list[str]]:
    """Our options, how the program is given, and the program with its arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m lle_gpu.accel",
        usage=USAGE,
        description="Run a program that was written for scikit-learn on lle_gpu.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="first print what differs, to standard error"
    )
    parser.add_argument(
        "--explain", action="store_true", help="print what differs from scikit-learn, and end"
    )
    # argparse would look for our options among the program's.
    at = next((i for i, word in enumerate(argv) if _begins_program(word)), len(argv))
    options, words = parser.parse_args(argv[:at]), argv[at:]
    if not words or words[0] == "-":
        return options, "-", words or [""]
    kind = words[0][:2]
    if kind not in ("-m", "-c"):
        return options, "script", words
    words = [words[0][2:], *words[1:]] if words[0][2:] else words[1:]
    if not words:
        parser.error(f"argument expected for the {kind} option")
    return options, kind, words


def _begins_program(word: str) -> bool:
    return word == "-" or not word.startswith("-") or word[:2] in ("-m", "-c")


def _run_script(words: list[str], names: dict[str, Any]) -> None:
    script = words[0]
    sys.argv[:] = words
    if pkgutil.get_importer(script) is not None:  # a folder or a zip file
        folder = os.path.abspath(script)  # noqa: PTH100  Path.absolute() leaves ".." in
        if sys.flags.safe_path:
            sys.path.insert(0, folder)
        else:
            sys.path[0] = folder
        _run(lambda: _as_main("__main__", False))
        return
    path = os.path.abspath(script)  # noqa: PTH100
    _set_first_path(os.path.dirname(os.path.realpath(path)))  # noqa: PTH120
    names.update(__file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path))
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        what = f"[Errno {error.errno}] {error.strerror}"
        print(f"{sys.executable}: can't open file {path!r}: {what}", file=sys.stderr)
        raise SystemExit(2) from None
    _run(lambda: exec(_compiled(source, path), names))


def _run_module(words: list[str], names: dict[str, Any]) -> None:
    sys.argv[:] = ["-m", *words[1:]]
    _run(lambda: _as_main(words[0], True))


def _run_code(words: list[str], names: dict[str, Any]) -> None:
    sys.argv[:] = ["-c", *words[1:]]
    _set_first_path("")
    _run(lambda: exec(_compiled(words[0], "<string>"), names))


def _run_input(words: list[str], names: dict[str, Any]) -> None:
    sys.argv[:] = words
    _set_first_path("")
    if sys.stdin.isatty():
        code.interact(banner=f"Python {sys.version} on {sys.platform}", local=names, exitmsg="")
    else:
        source = sys.stdin.read()
        names.update(__file__="<stdin>")
        _run(lambda: exec(_compiled(source, "<stdin>"), names))


def _compiled(source: str | bytes, name: str) -> CodeType:
    """Without the future statements of this module."""
    return compile(source, name, "exec", dont_inherit=True)


# What Python itself calls for "python -m", a folder and a zip file. The public functions of runpy
# work in a module that they take away at the end.
_as_main: Callable[[str, bool], Any] = runpy._run_module_as_main  # type: ignore[attr-defined]


def _set_first_path(folder: str) -> None:
    """Put the program's folder in the place of ours, which is the current one."""
    if not sys.flags.safe_path:  # else there is none
        sys.path[0] = folder


def _run(program: Callable[[], Any]) -> None:
    """Run, and show an error as if we were not there.

    It goes on up to the interpreter, which knows the right exit code, also for Ctrl-C.
    """
    try:
        program()
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        hook = sys.excepthook
        sys.excepthook = lambda kind, error, _: hook(kind, error.with_traceback(trace), trace)
        raise


if __name__ == "__main__":
    main()
