"""nvmath-python without a GPU: the parts of DirectSolver that lle_gpu uses, on SciPy.

Calls are held against the signatures of the released package (``nvmath_signatures.json``), and what
it demands is demanded here, too: CuPy operands, compressed rows with columns in order and all
indices of one type, right-hand sides in Fortran order, plan before factorize before solve. The
block of right-hand sides is read where it was given, as on the device. As in the released package,
what sizes are read into is there for the importing thread alone; and factors take memory of the
machine's that stays taken when they are freed, until the driver's pool is told to let go of it,
and that lets go of what the host has waited for, on the stream it was freed on.
Faults can be asked for:

    no nvmath, broken import, no cudss, cudss 1.0
    indefinite         definite matrices are found not to be: info is 3
    inaccurate         solutions miss by a thousandth
    cannot plan        an error in plan
    no foreign orders  an error in plan where an order that is not its own was given
    inaccurate in foreign orders
    orders inverted    an order that is not its own is taken for its inverse
    orders inverted, as memory tells
    cannot solve       an error in the third solve of a solver
    no memory          an error in factorize, as cuDSS says it
    unlike orders      rows and columns are permuted in different ways
    not reproducible   cuDSS does not know the deterministic mode
"""

from __future__ import annotations

import ctypes
import enum
import importlib
import importlib.machinery
import inspect
import json
import sys
import threading
import types
from pathlib import Path

import numpy as np
from scipy.sparse import csc_array, csr_array
from scipy.sparse.linalg import splu
from stand_in.machine import machine

# Of its trees of separators, by default.
LEVELS = 10
SIGNATURES = json.loads(Path(__file__).with_name("nvmath_signatures.json").read_text())


def signature(name):
    """The recorded signature."""
    scope = {}
    exec(f"def function{SIGNATURES[name]}: ...", scope)
    return inspect.signature(scope["function"])


def checked(name, args, kwargs):
    """The arguments as the real function would see them; a TypeError if it would refuse them."""
    bound = signature(name).bind(*args, **kwargs)
    bound.apply_defaults()
    return types.SimpleNamespace(**bound.arguments)


def _only(what):
    """An object with the properties of the real one: others are AttributeErrors, set or read."""
    return type(what, (), {"__slots__": tuple(SIGNATURES[f"{what} properties"])})()


def check_order(matrix, order, tree):
    """That an order is one, and that its tree's separators separate, as METIS_NodeNDP has it.

    Where a part and all of its separators stand in the order tells which nodes may be neighbours:
    no others are.
    """
    n = matrix.shape[0]
    assert sorted(order) == list(range(n)), "no permutation"
    assert tree.sum() == n and (tree >= 0).all(), "not all nodes are in one part or separator"
    n_parts = (len(tree) + 1) // 2
    sizes, low = [], 0
    while n_parts:  # the parts, then the separators of pairs of them, of pairs of these, ...
        sizes.append(tree[low : low + n_parts])
        low, n_parts = low + n_parts, n_parts // 2
    # Node by node, in the order of elimination, its level in the tree and its place there.
    level, place = np.empty((2, n), dtype=int)
    where = 0

    def visit(height, number):
        nonlocal where
        if height:
            visit(height - 1, 2 * number)
            visit(height - 1, 2 * number + 1)
        after = where + sizes[height][number]
        level[where:after], place[where:after] = height, number
        where = after

    visit(len(sizes) - 1, 0)
    rank = np.empty(n, dtype=int)
    rank[order] = np.arange(n)
    i, j = (rank[ends] for ends in matrix.nonzero())
    higher = np.maximum(level[i], level[j])
    together = (place[i] >> (higher - level[i])) == (place[j] >> (higher - level[j]))
    assert together.all(), "neighbours on two sides of a separator"


def install(monkeypatch, cupy, *faults):
    """Make ``nvmath`` importable, with these faults; returns the list of solvers made."""
    solvers = []
    MatrixType = enum.IntEnum("MatrixType", SIGNATURES["DirectSolverMatrixType"])
    ConfigParam = enum.IntEnum("ConfigParam", SIGNATURES["ConfigParam"])
    DataParam = enum.IntEnum("DataParam", SIGNATURES["DataParam"])
    of_thread = threading.local()
    of_thread.size_written = np.empty((1,), np.uint64)
    # Bytes that nobody uses and the driver keeps; and what was freed that a stream may still use.
    pool = types.SimpleNamespace(reserved=0, freed=[])

    class cuDSSError(Exception):  # noqa: N801
        def __init__(self, status):
            super().__init__(f"{status} ({SIGNATURES['Status'][status]})")

    class Options:
        def __init__(self, *args, **kwargs):
            self.__dict__.update(vars(checked("DirectSolverOptions", args, kwargs)))
            MatrixType(self.sparse_system_type)

    class DirectSolver:
        def __init__(self, *args, **kwargs):
            given = checked("DirectSolver", args, kwargs)
            if "no cudss" in faults:
                raise RuntimeError("libcudss not found")
            self.a, self.b, self.options = given.a, given.b, given.options
            a = self.a
            for part in (a.data, a.indices, a.indptr, self.b):
                if not isinstance(part, cupy.ndarray):
                    raise TypeError("The LHS must be a sparse CSR array")
            if a.indices.dtype != a.indptr.dtype:
                raise TypeError("The index types differ")
            if not self.b.flags.f_contiguous or self.b.dtype != a.dtype:
                raise TypeError("The RHS must be column-major, of the LHS's dtype")
            self.state, self.solves, self.taken = "made", 0, 0
            self.config_ptr, self.data_ptr, self.handle = id(self), id(self), 1
            self.given = {}
            self.deterministic, self.pool = False, pool
            self.plan_config = _only("PlanConfig")
            self.plan_config.nd_min_levels = LEVELS
            self.factorization_config = _only("FactorizationConfig")
            solvers.append(self)

        @property
        def kind(self):
            return MatrixType(self.options.sparse_system_type).name

        def _matrix(self):
            a = self.a
            matrix = csr_array(
                (a.data._array.copy(), a.indices._array, a.indptr._array), shape=a.shape
            )
            for low, high in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
                assert (np.diff(matrix.indices[low:high]) > 0).all(), "columns out of order"
            if self.kind != "GENERAL":
                assert abs(matrix - matrix.T).max() == 0, "not symmetric"
            return csc_array(matrix)

        def _take(self, size):
            """Have so many bytes of the machine's memory, those that are reserved first."""
            self._release()
            more = max(size - pool.reserved, 0)
            machine.used[machine.device] += more
            pool.reserved += more - size
            self.taken = size

        def _release(self):
            pool.reserved += self.taken
            self.taken = 0

        def plan(self, *args, **kwargs):
            checked("DirectSolver.plan", args, kwargs)
            tree = self.given.get("USER_ND_PARTITION_TREE")
            self.foreign = tree is not None and tree[0] != self.a.shape[0]
            if "cannot plan" in faults or ("no foreign orders" in faults and self.foreign):
                raise cuDSSError("NOT_SUPPORTED")
            matrix = self._matrix()
            self.state = "planned"
            of_thread.size_written[0] = 0
            dtype = [(name, "u8") for name in SIGNATURES["memory_estimates"]]
            estimates = np.zeros((), dtype).view(np.recarray)
            estimates.permanent_device_memory = 40 * 8 * self.a.nnz
            estimates.peak_device_memory = 80 * 8 * self.a.nnz
            if "orders inverted, as memory tells" in faults and self.foreign:
                estimates.peak_device_memory = 1 << 40
            n = self.a.shape[0]
            # Its own order has one part, and no separators.
            own = splu(abs(matrix) + n * csc_array(np.eye(n)), permc_spec="MMD_AT_PLUS_A").perm_c
            self.order = self.given.get("USER_PERM", np.argsort(own).astype(np.int32))
            self.tree = np.zeros(2**self.plan_config.nd_min_levels - 1, np.int32)
            self.tree[0] = n
            if self.given:
                self.tree = self.given["USER_ND_PARTITION_TREE"]
                if len(self.tree) != 2**self.plan_config.nd_min_levels - 1:
                    raise cuDSSError("INVALID_VALUE")
                check_order(matrix, self.order, self.tree)
            info = _only("PlanInfo")
            info.memory_estimates, info.row_permutation = estimates, self.order
            info.col_permutation = self.order.copy()
            if "unlike orders" in faults:
                info.col_permutation = info.col_permutation[::-1]
            return info

        def factorize(self, *args, **kwargs):
            checked("DirectSolver.factorize", args, kwargs)
            assert self.state in ("planned", "factorized"), "factorize before plan"
            if "no memory" in faults:
                raise cuDSSError("ALLOC_FAILED")
            turned = "orders inverted" in faults and self.foreign
            self.rows = np.argsort(self.order) if turned else self.order
            matrix = self._matrix()[self.rows][:, self.rows]
            options = {"SymmetricMode": True, "DiagPivotThresh": 0.1}
            self.lu = splu(csc_array(matrix), permc_spec="NATURAL", options=options)
            self._take(8 * int(self.lu.nnz))
            self.state = "factorized"
            of_thread.size_written[0] = 0
            info = _only("FactorizationInfo")
            info.lu_nnz = int(self.lu.nnz)
            info.info = 3 if self.kind == "SPD" and "indefinite" in faults else 0
            return info

        def solve(self, *args, **kwargs):
            checked("DirectSolver.solve", args, kwargs)
            assert self.state == "factorized", "solve before factorize"
            self.solves += 1
            if "cannot solve" in faults and self.solves == 3:
                raise RuntimeError("EXECUTION_FAILED")
            if self.deterministic and self.b.shape[1] > 1:  # seen on a device, cuDSS 0.8
                raise cuDSSError("NOT_SUPPORTED")
            x = np.empty(self.b.shape, order="F")
            x[self.rows] = self.lu.solve(np.asfortranarray(self.b._array[self.rows]))
            if "inaccurate" in faults or (
                "inaccurate in foreign orders" in faults and self.foreign
            ):
                noise = np.random.default_rng(self.solves).normal(size=x.shape)
                x += 1e-3 * np.abs(x).max() * noise
            result = cupy.empty(x.shape, dtype=x.dtype, order="F")
            result._array[...] = x
            return result

        def free(self, *args, **kwargs):
            checked("DirectSolver.free", args, kwargs)
            machine.streams.operation(machine.stream, [])
            pool.freed.append((machine.streams.at(machine.stream), self.taken))
            self._release()
            self.state, self.a, self.b = "freed", None, None

    def get_property(property_type):
        if "no cudss" in faults:
            raise RuntimeError('Failure finding "libcudss.so": No such file\n  searched in ...')
        version = (1, 0) if "cudss 1.0" in faults else SIGNATURES["cuDSS it accepts"]
        return version[property_type]

    def get_config_param_dtype(*args, **kwargs):
        attribute = checked("get_config_param_dtype", args, kwargs).attr
        return getattr(np, SIGNATURES[f"{ConfigParam(attribute).name} dtype"])

    def config_set(*args, **kwargs):
        given = checked("config_set", args, kwargs)
        if "not reproducible" in faults:
            raise cuDSSError("NOT_SUPPORTED")
        assert given.param == ConfigParam.DETERMINISTIC_MODE
        assert given.size_in_bytes == 4
        solver = next(solver for solver in solvers if solver.config_ptr == given.config)
        assert solver.state == "made", "planned already"
        solver.deterministic = ctypes.c_int32.from_address(given.value).value == 1

    def data_get(*args, **kwargs):
        given = checked("data_get", args, kwargs)
        solver = next(solver for solver in solvers if solver.data_ptr == given.data)
        assert solver.state == "planned"
        assert given.param == DataParam.ND_PARTITION_TREE
        if given.size_in_bytes != solver.tree.nbytes:  # seen on a device, cuDSS 0.8
            raise cuDSSError("INVALID_VALUE")
        ctypes.memmove(given.value, solver.tree.ctypes.data, solver.tree.nbytes)

    def data_set(*args, **kwargs):
        given = checked("data_set", args, kwargs)
        solver = next(solver for solver in solvers if solver.data_ptr == given.data)
        assert solver.state == "made", "planned already"
        part = np.empty(given.size_in_bytes // 4, np.int32)
        ctypes.memmove(part.ctypes.data, given.value, part.nbytes)
        solver.given[DataParam(given.param).name] = part

    def free_reserved_memory(*args, **kwargs):
        checked("free_reserved_memory", args, kwargs)
        pool.freed = [(done, size) for done, size in pool.freed if not machine.streams.seen(done)]
        kept = min(sum(size for _, size in pool.freed), pool.reserved)
        machine.used[machine.device] -= pool.reserved - kept
        pool.reserved = kept

    contents = {
        "nvmath": {},
        "nvmath.bindings": {},
        "nvmath.bindings.cudss": {
            "get_property": get_property,
            "get_config_param_dtype": get_config_param_dtype,
            "config_set": config_set,
            "data_get": data_get,
            "data_set": data_set,
            "DataParam": DataParam,
            "ConfigParam": ConfigParam,
            "cuDSSError": cuDSSError,
        },
        "nvmath.internal": {},
        "nvmath.internal.memory": {"free_reserved_memory": free_reserved_memory},
        "nvmath.sparse": {},
        "nvmath.sparse.advanced": {
            "DirectSolver": DirectSolver,
            "DirectSolverMatrixType": MatrixType,
            "DirectSolverOptions": Options,
        },
        "nvmath.sparse._internal": {},
        "nvmath.sparse._internal.cudss_config_ifc": {"_tls": of_thread},
        "nvmath.sparse._internal.cudss_data_ifc": {"_tls": of_thread},
    }

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name in contents:
                if "no nvmath" in faults:
                    raise ModuleNotFoundError(f"No module named {name!r}", name="nvmath")
                return importlib.machinery.ModuleSpec(name, self, is_package=True)
            return None

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            if "broken import" in faults:
                raise ImportError("libsomething.so: cannot open shared object file")
            vars(module).update(contents[module.__name__])
            if module.__name__ == "nvmath.sparse.advanced":
                for part in ("config", "data"):
                    importlib.import_module(f"nvmath.sparse._internal.cudss_{part}_ifc")

    for name in list(sys.modules):
        if name == "nvmath" or name.startswith("nvmath."):
            monkeypatch.delitem(sys.modules, name)
    for name in contents:  # what is imported from here on is forgotten afterwards
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    return solvers
