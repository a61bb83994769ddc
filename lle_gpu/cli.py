"""The command ``lle-gpu``: embed a file or a built-in data set, place new points, say what is done.

The report goes to standard output; stages, warnings and errors go to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
from numpy.typing import NDArray

import lle_gpu
from lle_gpu.constraints import METHODS
from lle_gpu.datasets import DATASETS, Dataset, load
from lle_gpu.device import DEVICES
from lle_gpu.disconnected import DISCONNECTED
from lle_gpu.estimator import LocallyLinearEmbedding
from lle_gpu.exceptions import GpuUnavailableError
from lle_gpu.files import (
    READERS,
    WRITERS,
    Selection,
    Table,
    check_names,
    check_writable,
    extension,
    read_table,
    stem,
    write_embedding,
)
from lle_gpu.neighbors import ALGORITHMS
from lle_gpu.parallel import effective_jobs
from lle_gpu.progress import ProgressBar, report_to, stage
from lle_gpu.spectral import SOLVERS

__all__ = ["main"]

PICTURES = (".png", ".pdf", ".svg")
# The output that has no place for the rows' names.
NUMBERS_ALONE = ".npy"
DOTS_PER_INCH = 150
DEFAULT_NEIGHBORS = 12
# More different numbers than this in a column of labels are a quantity, not classes.
MOST_INTEGER_CLASSES, MOST_FRACTIONAL_CLASSES = 40, 10
# The estimator's parameters that have an option of their name, beside n_neighbors.
PARAMETERS = (
    "n_components", "reg", "eigen_solver", "tol", "max_iter", "method", "neighbors_algorithm",
    "random_state", "n_jobs", "device", "metric", "disconnected", "memory_limit",
)  # fmt: skip
BAD_INPUT, INTERRUPTED = 2, 130
# What a user can mend, and therefore gets as one line instead of a traceback.
USER_ERRORS = (ValueError, TypeError, OSError, ImportError, GpuUnavailableError, MemoryError)

EXAMPLES = """\
examples:
  lle-gpu embed digits --plot digits.png
  lle-gpu embed swiss-roll -n 10000 --method ltsa -k 12 -o roll.npz --plot roll.png
  lle-gpu embed points.csv --label-column species --id-column id -o embedded.csv
  lle-gpu embed points.npy -d 3 --method modified -k 20 --quiet
  lle-gpu embed points.csv --drop id --save points.lle
  lle-gpu transform points.lle new.csv -o placed.csv

The exit status is 0 if what was asked for was made, also with warnings; 2 for bad input; 130 if
interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    int
        The exit status: 0, 2 for bad input, 130 for an interrupt.

    Examples
    --------
    >>> from lle_gpu.cli import main
    >>> main(["embed", "swiss-roll", "-n", "300", "-o", "no/such/folder.npy", "--quiet"])
    2
    """
    try:
        arguments = _parser().parse_args(argv)
        with _readable_warnings():
            arguments.run(arguments)
    except KeyboardInterrupt:
        print("\nlle-gpu: interrupted, nothing more is written", file=sys.stderr)
        return INTERRUPTED
    except USER_ERRORS as error:
        print(f"lle-gpu: error: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    return 0


# Arguments


class _Parser(argparse.ArgumentParser):
    """Errors become exceptions, so that there is one way to report them."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lle-gpu",
        description="Locally linear embedding and its family: four methods, certified.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lle-gpu {lle_gpu.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    _add_info(commands)
    _add_embed(commands)
    _add_transform(commands)
    return parser


def _add_info(commands: Any) -> None:
    info = commands.add_parser("info", help="versions, threads, and what a GPU would need")
    info.set_defaults(run=lambda arguments: _print(lle_gpu.show_config(imports=arguments.imports)))
    info.add_argument(
        "--imports",
        action="store_true",
        help="import NVIDIA's libraries, too, to see whether that works; takes seconds",
    )


def _add_embed(commands: Any) -> None:
    embed = commands.add_parser(
        "embed",
        help="embed a file or a built-in data set",
        description="Embed the rows of a file, or a built-in data set.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    embed.set_defaults(run=_embed)
    embed.add_argument(
        "input",
        metavar="INPUT",
        help=f"a file ({', '.join(READERS)}), or one of {', '.join(DATASETS)}",
    )
    group = embed.add_argument_group("what to read")
    group.add_argument(
        "-n", "--n-samples", type=int, metavar="N", help="points of a built-in data set"
    )
    _add_selection(group, "default: all")
    _add_parameters(embed.add_argument_group("how to embed"))

    group = embed.add_argument_group("what to write")
    _add_output(group, ".npz has the certificate, too. Default, without --plot and --save: ")
    add = group.add_argument
    add("--save", type=Path, metavar="MODEL", help="the model, for lle-gpu transform")
    add("--plot", type=Path, metavar="FILE", help=f"picture: {', '.join(PICTURES)}")
    add(
        "--plot-span",
        type=float,
        default=1.0,
        metavar="S",
        help="share of the points that the picture reaches over, to look past outliers; "
        "default: %(default)s, all",
    )
    add("--diagnose", action="store_true", help="print what is wrong with the embedding")
    _add_quiet(group)


def _add_transform(commands: Any) -> None:
    transform = commands.add_parser(
        "transform",
        help="place new points in a saved embedding",
        description="Place the rows of a file in the embedding of a model that embed --save wrote.",
        allow_abbrev=False,
    )
    transform.set_defaults(run=_transform)
    transform.add_argument("model", metavar="MODEL", type=Path, help="written by embed --save")
    transform.add_argument("input", metavar="INPUT", help=f"a file ({', '.join(READERS)})")
    group = transform.add_argument_group("what to read")
    _add_selection(group, "default: those of the model, by name, where it has names; else all")
    group = transform.add_argument_group("what to write")
    _add_output(group, "default: ")
    _add_quiet(group)


def _add_parameters(group: Any) -> None:
    """The estimator's parameters, with its defaults."""
    add, defaults = group.add_argument, LocallyLinearEmbedding()
    add("--method", choices=tuple(METHODS), default=defaults.method, help="default: %(default)s")
    add(
        "-k",
        "--n-neighbors",
        type=int,
        metavar="K",
        help="default: what suits the data and the method; it is printed",
    )
    add(
        "-d",
        "--n-components",
        type=int,
        default=defaults.n_components,
        metavar="D",
        help="default: %(default)s",
    )
    add(
        "--reg",
        type=float,
        default=defaults.reg,
        metavar="R",
        help="ridge on the weights, in units of the local trace; default: %(default)s",
    )
    add("--metric", default=defaults.metric, help="of the neighbours; default: %(default)s")
    add(
        "--disconnected",
        choices=DISCONNECTED,
        default=defaults.disconnected,
        help="what to do if the neighbour graph is in pieces; default: %(default)s",
    )
    add("--memory-limit", metavar="SIZE", help="working memory, such as 4GB; default: no limit")
    add(
        "--neighbors-algorithm",
        choices=ALGORITHMS,
        default=defaults.neighbors_algorithm,
        help="default: %(default)s",
    )
    add(
        "--eigen-solver",
        choices=SOLVERS,
        default=defaults.eigen_solver,
        help="default: %(default)s",
    )
    add(
        "--tol",
        type=float,
        default=defaults.tol,
        metavar="T",
        help="angle to the true vectors' space; default: %(default)s",
    )
    add(
        "--max-iter",
        type=int,
        default=defaults.max_iter,
        metavar="I",
        help="restarts of the iteration; default: %(default)s",
    )
    add(
        "--random-state",
        type=int,
        metavar="SEED",
        help="of the iteration's start and of the made-up data; default: a fixed one",
    )
    add("--n-jobs", type=int, metavar="J", help="threads; default: all cores")
    add("--device", choices=DEVICES, default=defaults.device, help="default: %(default)s")


def _add_output(group: Any, default: str) -> None:
    group.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help=f"{', '.join(WRITERS)}; {default}INPUT's name with _lle.npy, in this folder",
    )


def _add_quiet(group: Any) -> None:
    group.add_argument("-q", "--quiet", action="store_true", help="print warnings and errors only")


def _add_selection(group: Any, default: str) -> None:
    """Options that say which part of a file is meant."""
    group.add_argument(
        "--label-column",
        metavar="COLUMN",
        help="name or number (from 0) of the column that holds classes: not embedded, but written "
        "and shown",
    )
    group.add_argument(
        "--id-column",
        metavar="COLUMN",
        help="name or number of the column that holds the rows' names: not embedded, but written "
        "first, as it stands, to all outputs but .npy; default: the index that pandas or R wrote "
        "(in text files a first column without a name, of text or integers), unless it only "
        "counts the rows from 0, or is several columns",
    )
    columns = group.add_mutually_exclusive_group()
    columns.add_argument(
        "--columns",
        type=_comma_list,
        metavar="A,B,...",
        help=f"columns to embed, by name or number; {default}",
    )
    columns.add_argument("--drop", type=_comma_list, metavar="A,B,...", help="columns to leave out")
    group.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether a CSV file's first line has names; default: find out",
    )
    group.add_argument(
        "--key",
        help="array of an .npz file; default: X, or the only one with two axes; what "
        "scipy.sparse.save_npz wrote is read as the sparse matrix",
    )


def _comma_list(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


# The command embed


@dataclass(frozen=True)
class _Source:
    """The points, and all that is known about them."""

    stem: str
    table: Table
    dataset: Dataset | None  # if built in
    description: str

    @property
    def n_neighbors(self) -> int:
        return self.dataset.n_neighbors if self.dataset else DEFAULT_NEIGHBORS


def _embed(arguments: argparse.Namespace) -> None:
    begin = time.perf_counter()
    output, picture = _targets(arguments)
    with report_to(_Stages(io.StringIO() if arguments.quiet else sys.stderr)):
        source = _read(arguments)
        X = source.table.X
        say = _silence if arguments.quiet else _say
        say(
            "data",
            f"{arguments.input}: {X.shape[0]} x {X.shape[1]} {X.dtype}"
            f"{_classes(source.table)}{source.description}",
        )
        _remark(say, source.table, output)

        n_neighbors, reason = _n_neighbors(arguments, source, X.shape[0])
        given = {name: getattr(arguments, name) for name in PARAMETERS}
        lle = LocallyLinearEmbedding(n_neighbors=n_neighbors, **given)
        say(
            "parameters",
            f"method {lle.method}, n_neighbors {n_neighbors}{reason}, n_components "
            f"{lle.n_components}{_changed(lle)}; {effective_jobs(lle.n_jobs)} threads",
        )
        if output is not None:
            check_names(output, lle.n_components, source.table)
        Y = lle.fit_transform(X)
        if source.table.columns is not None:
            # As if X had been a data frame with these columns.
            lle.feature_names_in_ = np.array(source.table.columns, dtype=object)
        say("certificate", str(lle.spectrum_))
        if arguments.diagnose:
            say("diagnosis", str(lle.diagnose()))
        if output is not None:
            with stage("write"):
                write_embedding(output, Y, lle.spectrum_, source.table)
        if arguments.save is not None:
            with stage("save"):
                lle.save(arguments.save)
        coloured = ""
        if picture is not None:
            with stage("plot"):
                coloured = _draw(picture, Y, lle, source, arguments.plot_span)
    say("total", f"{time.perf_counter() - begin:.2f} s{_peak_memory()}")
    if output is not None:
        say("wrote", f"{output} ({Y.shape[0]} x {Y.shape[1]} {Y.dtype}, {_size(output)})")
    if arguments.save is not None:
        say("wrote", f"{arguments.save} (the model, {_size(arguments.save)})")
    if picture is not None:
        say("wrote", f"{picture} ({coloured}, {_size(picture)})")


def _targets(arguments: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """Where to write the embedding and the picture; what cannot be written is refused now."""
    from lle_gpu.plot.canvas import matplotlib

    output, picture, save = arguments.output, arguments.plot, arguments.save
    if output is None and picture is None and save is None:
        output = _default_output(arguments.input)
    source = Path(arguments.input)
    _check_target(output, "-o", tuple(WRITERS), [source])
    _check_target(picture, "--plot", PICTURES, [source])
    _check_target(save, "--save", None, [source, *filter(None, (output, picture))])
    if picture is None and arguments.plot_span != 1:
        raise ValueError("--plot-span is for pictures: give --plot FILE, too")
    if picture is not None:
        if not 0 < arguments.plot_span <= 1:
            raise ValueError(
                f"--plot-span {arguments.plot_span:g} must be greater than 0 and at most 1"
            )
        matplotlib()
    _check_holds_text(output, arguments.id_column)
    return output, picture


def _default_output(name: str) -> Path:
    return Path(f"{stem(Path(name))}_lle.npy")


def _check_holds_text(output: Path | None, id_column: str | None) -> None:
    """Refuse to leave out the rows' names where they were asked for."""
    if id_column is not None and output is not None and extension(output) == NUMBERS_ALONE:
        raise ValueError(f"--id-column {id_column}: {_numbers_alone(output)}")


def _numbers_alone(output: Path) -> str:
    others = ", ".join(suffix for suffix in WRITERS if suffix != NUMBERS_ALONE)
    return f"{output} has no place for the rows' names, only for numbers: use -o with {others}"


def _remark(say: Callable[[str, str], None], table: Table, output: Path | None) -> None:
    """Say what was chosen while reading, and what of it will not be written."""
    for remark in table.remarks:
        say("", remark)
    if table.ids is not None and output is not None and extension(output) == NUMBERS_ALONE:
        say("", _numbers_alone(output))


def _check_target(
    path: Path | None, option: str, allowed: Sequence[str] | None, others: Sequence[Path]
) -> None:
    """Refuse a file that cannot be written, or that is another one of this run."""
    if path is None:
        return
    if allowed is not None and extension(path) not in allowed:
        raise ValueError(
            f"{option} {path}: cannot write {extension(path) or 'a file without extension'}: use "
            f"{', '.join(allowed)}"
        )
    check_writable(path)
    for other in others:
        same = other.exists() and path.exists() and path.samefile(other)
        if same or path.resolve() == other.resolve():
            what = "the input" if other == others[0] else "written to by another option"
            raise ValueError(f"{option} {path} is {what}, which would be lost: use another name")


def _read(arguments: argparse.Namespace) -> _Source:
    """The input, be it built in or a file."""
    name = arguments.input
    selection = _selection(arguments)
    if name in DATASETS:
        if selection != Selection():
            raise ValueError(
                "--key, --label-column, --id-column, --columns, --drop and --header are for files, "
                f"and {name} is built in"
            )
        data = load(name, arguments.n_samples, arguments.random_state or 0)
        return _Source(name, Table(data.X, data.labels), data, f" ({data.description})")
    path = Path(name)
    if not name or not path.exists():
        close = difflib.get_close_matches(name.lower(), DATASETS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise FileNotFoundError(
            f"no file {name!r}, and no built-in data set of that name; built in are "
            f"{', '.join(DATASETS)}.{hint}"
        )
    _refuse_folder(path)
    if arguments.n_samples is not None:
        raise ValueError(f"--n-samples is for built-in data sets, and {name} is a file")
    with stage("read"):
        return _Source(stem(path), read_table(path, selection), None, "")


def _selection(arguments: argparse.Namespace) -> Selection:
    return Selection(
        key=arguments.key,
        label=arguments.label_column,
        ids=arguments.id_column,
        columns=arguments.columns,
        drop=arguments.drop,
        header=arguments.header,
    )


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it")


def _n_neighbors(arguments: argparse.Namespace, source: _Source, n: int) -> tuple[int, str]:
    """The number of neighbours, and where it comes from if it was not given.

    Twice the least that the method takes, if that is more than what suits the data: at the least,
    every point has a single constraint.
    """
    if arguments.n_neighbors is not None:
        return arguments.n_neighbors, ""
    least = METHODS[arguments.method].least_neighbors(max(1, arguments.n_components))
    suits = source.n_neighbors
    if n - 1 < max(suits, 2 * least):
        return max(1, n - 1), f" (default: all others, of {n} points)"
    if 2 * least > suits:
        return 2 * least, f" (default: twice the least for {arguments.method})"
    return suits, f" (default for {source.stem if source.dataset else 'files'})"


def _classes(table: Table) -> str:
    """What the labels are, if there are labels."""
    labels = table.labels
    if labels is None:
        return ""
    if _are_values(labels):
        return f", values of {table.label_name}"
    count = len(np.unique(labels.astype(str) if labels.dtype == object else labels))
    return f", {count} classes" + (f" of {table.label_name}" if table.label_name != "label" else "")


def _changed(lle: LocallyLinearEmbedding) -> str:
    """The other parameters that are not at their defaults, and are numbers or words."""
    shown = {"method", "n_neighbors", "n_components", "n_jobs"}
    defaults = LocallyLinearEmbedding().get_params()
    changed = {
        name: value
        for name, value in lle.get_params().items()
        if name not in shown and isinstance(value, str | int | float) and value != defaults[name]
    }
    return "".join(f", {name} {value}" for name, value in changed.items())


def _draw(picture: Path, Y: NDArray[Any], lle: Any, source: _Source, span: float) -> str:
    """Draw the embedding; returns what the colours mean."""
    from lle_gpu.plot import plot_embedding

    data, labels = source.dataset, source.table.labels
    options: dict[str, Any] = {}
    if labels is not None and not _are_values(labels):
        name = "digit" if source.stem == "digits" and data else source.table.label_name
        options = {"labels": labels, "label_name": name}
    elif labels is not None:
        options = {"values": labels, "value_name": source.table.label_name}
    elif data is not None and data.position is not None:
        options = {"values": data.position, "value_name": f"position along the {data.name}"}
    else:
        options = {
            "values": _first_principal_component(source.table.X),
            "value_name": "first principal component of X",
        }
    axes = plot_embedding(
        Y,
        images=None if data is None else data.images,
        title=f"{source.stem}: {lle.method}, {lle.n_neighbors} neighbours",
        span=span,
        **options,
    )
    axes.figure.savefig(picture, dpi=DOTS_PER_INCH)
    return f"coloured by {options.get('label_name') or options.get('value_name')}"


def _are_values(labels: NDArray[Any]) -> bool:
    """Whether a column of labels is a quantity: numbers, and too many for classes."""
    if labels.dtype.kind not in "fiu":
        return False
    fractional = bool((labels != np.round(labels)).any())
    most = MOST_FRACTIONAL_CLASSES if fractional else MOST_INTEGER_CLASSES
    return len(np.unique(labels)) > most


def _first_principal_component(X: NDArray[Any]) -> NDArray[Any]:
    from sklearn.decomposition._pca import PCA  # not cuml.accel's

    return np.asarray(PCA(1, random_state=0).fit_transform(X)[:, 0])


# The command transform


def _transform(arguments: argparse.Namespace) -> None:
    begin = time.perf_counter()
    source = Path(arguments.input)
    output = arguments.output or _default_output(arguments.input)
    for path in (arguments.model, source):
        _refuse_folder(path)
        if not path.exists():
            raise FileNotFoundError(f"no file {str(path)!r}")
    _check_target(output, "-o", tuple(WRITERS), [source])
    _check_target(output, "-o", None, [arguments.model])
    _check_holds_text(output, arguments.id_column)
    say = _silence if arguments.quiet else _say
    with report_to(_Stages(io.StringIO() if arguments.quiet else sys.stderr)):
        with stage("load"):
            lle = lle_gpu.load(arguments.model)
        n, d = lle.nbrs_.X.shape
        say(
            "model",
            f"{arguments.model}: method {lle.method}, n_neighbors {lle.n_neighbors}, n_components "
            f"{lle.n_components}{_changed(lle)}; fitted to {n} x {d} points",
        )
        with stage("read"):
            table = read_table(source, _columns_of(lle, source, _selection(arguments)))
        X = table.X
        say("data", f"{source}: {X.shape[0]} x {X.shape[1]} {X.dtype}{_classes(table)}")
        _remark(say, table, output)
        check_names(output, lle.n_components, table)
        if X.shape[1] != d:
            raise ValueError(
                f"{source}: {X.shape[1]} columns are left, and the model was fitted to {d}. Choose "
                "them with --columns, --drop or --label-column"
            )
        if hasattr(lle, "feature_names_in_"):
            del lle.feature_names_in_  # the columns were chosen by them, or by the user
        Y = lle.transform(X)
        with stage("write"):
            write_embedding(output, Y, lle.spectrum_, table)
    say("total", f"{time.perf_counter() - begin:.2f} s{_peak_memory()}")
    say("wrote", f"{output} ({Y.shape[0]} x {Y.shape[1]} {Y.dtype}, {_size(output)})")


def _columns_of(lle: LocallyLinearEmbedding, path: Path, selection: Selection) -> Selection:
    """The model's columns by their names, unless the user chose, or the file has no names."""
    names = getattr(lle, "feature_names_in_", None)
    chosen = selection.columns is not None or selection.drop is not None
    if names is None or chosen or extension(path) in (".npy", ".npz"):
        return selection
    return replace(selection, columns=list(names))


# Printing


class _Stages(ProgressBar):
    """The progress bar, and a Ctrl-C that works at once in every stage.

    LAPACK and SuperLU hold the interpreter for up to minutes, in which no ``KeyboardInterrupt`` can
    be raised. There the signal kills the process, as it kills programs that do not handle it (130
    in a shell, too); nothing is being written then.
    """

    HOLD_THE_INTERPRETER = ("dense", "factor")

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._handler: Any = None

    def start(self, name: str, total: int | None) -> None:
        super().start(name, total)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if name in self.HOLD_THE_INTERPRETER and in_main_thread:
            self._handler = signal.signal(signal.SIGINT, signal.SIG_DFL)

    def finish(self, name: str, seconds: float) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None
        super().finish(name, seconds)


def _print(text: str) -> None:
    try:
        print(text, flush=True)  # flushed, to keep its place among the stages
    except UnicodeEncodeError:  # names of files and columns: no reason to end, nor to lose them
        encoding = sys.stdout.encoding
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:  # the reader, such as head, has seen enough: the files are still wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(name: str, text: str) -> None:
    first, *others = text.split("\n")
    _print("\n".join([f"{name:<12}{first}", *(f"{'':<12}{line}" for line in others)]))


def _silence(name: str, text: str) -> None:
    pass


def _one_line(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"not enough memory ({_joined(error)}): use fewer points or neighbours"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return _joined(error) or type(error).__name__


def _joined(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextlib.contextmanager
def _readable_warnings() -> Iterator[None]:
    """Print each warning as one line, without the source line that gave it."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        over = "\r" if sys.stderr.isatty() else ""  # a running stage's name
        text = " ".join(str(message).split())
        print(f"{over}lle-gpu: warning: {text}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _peak_memory() -> str:
    """The process's largest memory so far, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f", peak memory {peak * (1 if sys.platform == 'darwin' else 1024) / 1e6:.0f} MB"


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
