"""CUDA kernels on the CPU, their source unchanged, also under sanitizers. A test tool.

    module = Module(source_text("barycentric.cu"), ["barycentric_warp<float, 16, 4>"])
    module.launch("barycentric_warp<float, 16, 4>", grid, block, (X, index, W, np.int32(n)))

A kernel is compiled by g++ with ``emulator.h`` before it. Every CUDA thread is a fiber;
``runtime.cpp`` runs them in turns, from barrier to barrier, block after block, in an order that the
seed chooses (0 ascending, 1 descending, others random). Results that depend on the order differ
between seeds; barriers that not all threads reach are errors, as are shuffles from lanes that take
no part; shared memory reads as NaN until it is written.

    python -m tests.emulator.sanitize address python -m pytest ...   bounds, undefined behaviour
    python -m tests.emulator.sanitize thread python -m pytest ...    data races, missing barriers

Rules for kernels: dynamic shared memory by ``DYN_SHARED``; PTX and the like in small functions that
have an ``#ifdef EMULATED`` branch; no standard headers, no cooperative groups, no waiting for
another thread or block; NumPy scalars of the parameter's exact type.

Not modelled: memory consistency beyond barriers (fences do nothing), blocks that run at once,
warps in lockstep (lanes never are: code that relies on it fails, as it should), bank conflicts,
registers, flushing of subnormal numbers, the error of fast-math functions, half precision.

Needs g++ (or what CXX names); sanitizers need its libasan, libubsan and libtsan.
"""

from .host import EmulatorError, Module

__all__ = ["EmulatorError", "Module"]
